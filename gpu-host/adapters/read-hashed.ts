/**
 * Reads a part of a file into the one buffer that stays, hashing each chunk while it is still in
 * the processor's cache. Does not yield, so it belongs on a thread of its own, but for small parts:
 * there it beat reads that overlap the hash by a quarter, since no other thread has to wake up. The
 * kernel reads ahead meanwhile.
 */
import { createHash } from 'node:crypto'
import { readSync } from 'node:fs'
import { crc32 } from 'node:zlib'

/** Few calls, and a chunk fits a core's second-level cache. */
const CHUNK_BYTES = 256 * 1024

export interface HashedBytes {
  readonly bytes: Uint8Array<ArrayBuffer>
  /** Of zlib. */
  readonly crc32: number
  /** Lower-case hex; null where it was not asked for. */
  readonly sha256: string | null
}

/** null when the file ends early. The caller has checked `length` against the file's size. */
export function readHashed(
  fd: number,
  position: number,
  length: number,
  withSha256: boolean,
): HashedBytes | null {
  // Not from the pool: the buffer lives as long as the adapter does, and may change its thread.
  const bytes = Buffer.allocUnsafeSlow(length)
  const hash = withSha256 ? createHash('sha256') : null
  let checksum = 0
  let filled = 0
  while (filled < length) {
    const wanted = Math.min(CHUNK_BYTES, length - filled)
    const count = readSync(fd, bytes, filled, wanted, position + filled)
    if (count === 0) return null
    const chunk = bytes.subarray(filled, filled + count)
    checksum = crc32(chunk, checksum)
    hash?.update(chunk)
    filled += count
  }
  return { bytes, crc32: checksum, sha256: hash?.digest('hex') ?? null }
}
