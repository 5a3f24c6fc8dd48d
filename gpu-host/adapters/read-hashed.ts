/**
 * Reads a part of a file into the one buffer that stays, and hashes it on the way: while a chunk is
 * hashed, the next is read. Hashing runs on the calling thread, in pieces of one chunk.
 */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'

/** Large enough that calls cost nothing beside the copy; small enough to stay in the cache. */
const CHUNK_BYTES = 1024 * 1024

export interface HashedBytes {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Lower-case hex. */
  readonly sha256: string
}

/** null when the file ends early. The caller has checked `length` against the file's size. */
export async function readHashed(
  file: FileHandle,
  position: number,
  length: number,
): Promise<HashedBytes | null> {
  // Not from the pool: the buffer lives as long as the adapter does, and may change its thread.
  const bytes = Buffer.allocUnsafeSlow(length)
  const hash = createHash('sha256')
  const readAt = (offset: number) =>
    file.read(bytes, offset, Math.min(CHUNK_BYTES, length - offset), position + offset)
  let filled = 0
  let reading = readAt(0)
  while (filled < length) {
    const { bytesRead } = await reading
    if (bytesRead === 0) return null
    const start = filled
    filled += bytesRead
    if (filled < length) {
      reading = readAt(filled)
      // A damaged disk must not end the process while the chunk before it is hashed.
      reading.catch(() => {})
    }
    hash.update(bytes.subarray(start, filled))
  }
  return { bytes, sha256: hash.digest('hex') }
}
