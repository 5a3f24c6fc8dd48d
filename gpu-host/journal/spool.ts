/**
 * The segments on disk by size: how much of the spool's cap they take, how much of it the edge has
 * not acknowledged, and which of them may go. A segment goes only when all its events are
 * acknowledged and it is past retention, or space is short.
 */
import type { Disk } from './disk.ts'
import { listSegments, segmentPath } from './segment.ts'

interface StoredSegment {
  readonly bytes: number
  readonly writtenMs: number
}

export interface SpoolOptions {
  readonly disk: Disk
  readonly directory: string
  readonly retentionMs: number
}

export class Spool {
  readonly #options: SpoolOptions
  readonly #segments = new Map<number, StoredSegment>()
  #bytes = 0

  /** Counts what is there. */
  constructor(options: SpoolOptions) {
    this.#options = options
    const { disk, directory } = options
    for (const index of listSegments(disk, directory)) {
      const { size, mtimeMs } = disk.stat(segmentPath(directory, index))
      this.set(index, size, mtimeMs)
    }
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Bytes of segments from `index` on. */
  bytesFrom(index: number): number {
    let bytes = 0
    for (const [other, segment] of this.#segments) if (other >= index) bytes += segment.bytes
    return bytes
  }

  /** Segment `index` now has `bytes`. */
  set(index: number, bytes: number, nowMs: number): void {
    this.#bytes += bytes - (this.#segments.get(index)?.bytes ?? 0)
    this.#segments.set(index, { bytes, writtenMs: nowMs })
  }

  /**
   * Removes segments before `end`, the oldest first: those past retention, and while `isShort` says
   * so others too. Throws the disk's error.
   */
  prune(end: number, nowMs: number, isShort: () => boolean): boolean {
    const { disk, directory, retentionMs } = this.#options
    let isChanged = false
    for (const [index, { bytes, writtenMs }] of this.#segments) {
      const isPast = nowMs - writtenMs > retentionMs
      if (index >= end || (!isPast && !isShort())) break
      disk.unlink(segmentPath(directory, index))
      this.#segments.delete(index)
      this.#bytes -= bytes
      isChanged = true
    }
    return isChanged
  }
}
