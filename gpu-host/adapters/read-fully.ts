/** Reads exactly the bytes asked for; null when the file ends before them. */
import type { FileHandle } from 'node:fs/promises'

export async function readFully(
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Buffer<ArrayBuffer> | null> {
  const { size } = await handle.stat()
  // Before the allocation: a length out of a damaged header must cost nothing.
  if (position + length > size) return null
  // Not from the pool: the buffer may live as long as an adapter does.
  const buffer = Buffer.allocUnsafeSlow(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) return null
    filled += bytesRead
  }
  return buffer
}
