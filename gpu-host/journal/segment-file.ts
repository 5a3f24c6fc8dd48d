/**
 * The segment that is written to. Invariant: it ends in a whole record, or knows that it does not
 * and takes nothing until the rest of a failed write is cut off.
 */
import { errorCodeOf } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import type { Disk } from './disk.ts'
import { writeFully } from './durable-file.ts'
import { CHAIN_START, type ChainPosition, encodeRecords } from './frame.ts'
import type { JournalRecord } from './record.ts'
import { segmentPath } from './segment.ts'

export class SegmentFile {
  readonly index: number
  readonly fd: number
  readonly #disk: Disk
  readonly #log: Log
  #size = 0
  #chain: ChainPosition = CHAIN_START
  #isTailTorn = false

  private constructor(disk: Disk, log: Log, fd: number, index: number) {
    this.#disk = disk
    this.#log = log
    this.fd = fd
    this.index = index
  }

  /** A new file that begins with `head`. Throws the disk's error; then it has left nothing. */
  static create(
    { disk, log, directory }: { disk: Disk; log: Log; directory: string },
    index: number,
    head: JournalRecord,
  ): SegmentFile {
    const path = segmentPath(directory, index)
    const file = new SegmentFile(disk, log, openNew(disk, path), index)
    try {
      file.append([head])
      return file
    } catch (error) {
      disk.close(file.fd)
      removeLeftover(disk, path)
      throw error
    }
  }

  get size(): number {
    return this.#size
  }

  /** CRC of the last record. */
  get lastCrc(): string {
    return this.#chain.crc
  }

  /** One write for all `records`. Throws the disk's error; then none of them is in the file. */
  append(records: readonly JournalRecord[]): void {
    if (this.#isTailTorn) this.#cutTail()
    const { bytes, next } = encodeRecords(records, this.#chain)
    try {
      writeFully(this.#disk, this.fd, bytes)
    } catch (error) {
      this.#isTailTorn = true
      try {
        this.#cutTail()
      } catch (cutError) {
        const reason = errorText(cutError)
        this.#log('error', 'the rest of a failed journal write is not cut off yet', { reason })
      }
      throw error
    }
    this.#size += bytes.length
    this.#chain = next
  }

  #cutTail(): void {
    this.#disk.truncate(this.fd, this.#size)
    this.#isTailTorn = false
  }
}

/** A file that is there was begun in vain, and could not be removed then. */
function openNew(disk: Disk, path: string): number {
  try {
    return disk.open(path, 'create')
  } catch (error) {
    if (errorCodeOf(error) !== 'EEXIST') throw error
    disk.unlink(path)
    return disk.open(path, 'create')
  }
}

function removeLeftover(disk: Disk, path: string): void {
  try {
    disk.unlink(path)
  } catch {
    // The next try at this segment removes it.
  }
}
