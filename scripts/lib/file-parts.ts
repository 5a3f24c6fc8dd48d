/** A file as an upload names it: its hash, and those of the parts that it is sent in. */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { UPLOAD_PART_BYTES, type UploadFile } from '#protocol'

/** Reads the file once, a part at a time. */
export async function describeFile(file: FileHandle): Promise<UploadFile> {
  const whole = createHash('sha256')
  const parts: string[] = []
  let bytes = 0
  for (;;) {
    const part = await readPart(file, parts.length)
    if (part.length === 0) break
    bytes += part.length
    whole.update(part)
    parts.push(createHash('sha256').update(part).digest('hex'))
  }
  return { bytes, sha256: whole.digest('hex'), part_sha256: parts }
}

/** Shorter at the end of the file, empty behind it. */
export async function readPart(file: FileHandle, index: number): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = Buffer.allocUnsafeSlow(UPLOAD_PART_BYTES)
  let filled = 0
  while (filled < buffer.length) {
    const at = index * UPLOAD_PART_BYTES + filled
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, at)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}
