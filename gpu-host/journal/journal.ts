/**
 * The journal: what the host owes the bill, on disk before anybody is told. `append` returns after
 * the records were written to the file (they survive the death of the process); an fsync follows
 * within `fsyncIntervalMs` (they survive the death of the machine), and `durable` says how far that
 * has come. Segments rotate by size; each begins with what is open, so old ones can go once their
 * events are shipped.
 *
 * - A write that fails throws `journal_full`, leaves the file as it was, and the caller sends
 *   nothing. It may work again later: no restart is needed.
 * - An fsync that fails is the end: from then on everything throws `journal_failed`. The next start
 *   writes anew what can be read.
 * - Room to settle what is open is held back (reserve.ts); without it no request is opened.
 */
import type { Clock } from '../clock.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { type Disk, isDiskFull, nodeDisk } from './disk.ts'
import { GroupFsync } from './group-fsync.ts'
import { type OpenRequest, OpenRequests } from './open-requests.ts'
import type { JournalRecord } from './record.ts'
import type { JournalRecovery } from './recovery.ts'
import { Reserve } from './reserve.ts'
import { SegmentFile } from './segment-file.ts'
import { settleRecovered } from './settle-recovered.ts'
import type { JournalCursor } from './settled-reader.ts'
import { SpaceWatch } from './space-watch.ts'
import { Spool } from './spool.ts'
import { startAnew } from './start-anew.ts'

export interface JournalOptions {
  readonly directory: string
  readonly hostId: string
  readonly clock: Clock
  readonly log: Log
  readonly segmentBytesMax: number
  /**
   * All segments together, with what settling the open requests will take; above it, and with
   * nothing shipped to remove, requests are refused.
   */
  readonly totalBytesMax: number
  readonly retentionMs: number
  readonly fsyncIntervalMs: number
  /** Oldest segment with events that the edge has not acknowledged. */
  readonly shippedSegment: number
  /** Held back on disk for settling: what open requests may take at most. 1 MiB by default. */
  readonly reserveBytes?: number
  /** The log raises an alarm while the disk has less. 0 (none) by default. */
  readonly freeBytesMin?: number
  /** The machine's own by default; another in tests of disks that fail. */
  readonly disk?: Disk
  /** Told once that an fsync has failed: the process has to end. */
  readonly onFailed?: (error: Error) => void
}

const RESERVE_BYTES = 1024 * 1024

export class Journal {
  readonly epoch: number
  readonly id: string
  readonly recovery: JournalRecovery
  readonly #options: JournalOptions
  readonly #disk: Disk
  readonly #unlock: () => void
  readonly #reserve: Reserve
  readonly #spool: Spool
  readonly #fsync: GroupFsync
  readonly #open = new OpenRequests()
  readonly #watch: SpaceWatch
  #segment: SegmentFile
  #shippedSegment: number
  #hasFailed = false
  #isClosed = false

  /**
   * Recovers what the last run left, closes its open requests, and starts a segment; all of it is
   * durable when this returns. Throws `journal_locked` while another process has the journal.
   */
  constructor(options: JournalOptions) {
    const { directory, clock, log } = options
    const disk = options.disk ?? nodeDisk
    disk.makeDirectory(directory)
    this.#options = options
    this.#disk = disk
    this.#shippedSegment = options.shippedSegment
    this.#watch = new SpaceWatch(log, options.freeBytesMin ?? 0)
    this.#unlock = disk.lock(directory)
    try {
      const bytes = options.reserveBytes ?? RESERVE_BYTES
      this.#reserve = new Reserve({ disk, log, directory, bytes })
      const { recovery, identity } = this.#reserve.orWithout(() =>
        startAnew(disk, options, clock.nowMs()),
      )
      this.recovery = recovery
      this.epoch = identity.epoch
      this.id = identity.journal_id
      this.#spool = new Spool({ disk, directory, retentionMs: options.retentionMs })
      this.#segment = this.#reserve.orWithout(() =>
        this.#createSegment(recovery.nextIndex, recovery.lastCrc, recovery.open),
      )
      this.#fsync = new GroupFsync(
        {
          disk,
          clock,
          directory,
          intervalMs: options.fsyncIntervalMs,
          onFailed: (error) => this.#fail(error),
        },
        { segment: recovery.nextIndex, offset: 0 },
      )
      this.#fsync.directoryChanged()
      this.#wrote()
      const closing = { hostId: options.hostId, epoch: this.epoch, endedAt: this.#nowIso() }
      const ended = recovery.open.map((entry) => settleRecovered(entry, closing))
      if (ended.length > 0) this.append(ended)
      this.flushSync()
      this.#reserve.hold(clock.nowMs())
    } catch (error) {
      // Whoever started it hears of it by this alone.
      this.#hasFailed = true
      this.#unlock()
      throw error
    }
  }

  /** Bytes of all segments on disk. */
  get bytes(): number {
    return this.#spool.bytes
  }

  get openCount(): number {
    return this.#open.size
  }

  /** Everything before it survives the death of the machine. */
  get durable(): JournalCursor {
    return this.#fsync.durable
  }

  /** Share of the cap that events take which the edge has not acknowledged. */
  get spoolRatio(): number {
    return this.#spool.bytesFrom(this.#shippedSegment) / this.#options.totalBytesMax
  }

  /** Free bytes of the disk that the journal is on. */
  get diskFreeBytes(): number {
    return this.#disk.freeBytes(this.#options.directory)
  }

  /**
   * One write for all `records`, in order. Throws `journal_full` or `journal_failed`; then none of
   * them was kept. On a full disk, records that end requests take the reserve.
   */
  append(records: readonly JournalRecord[]): void {
    this.#assertAlive()
    if (records.length === 0) return
    if (this.#segment.size >= this.#options.segmentBytesMax) this.#rotate()
    const isEnding = records.every(({ t }) => t === 'settled')
    try {
      const write = () => this.#orWithoutShipped(() => this.#segment.append(records))
      if (isEnding) this.#reserve.orWithout(write)
      else write()
    } catch (error) {
      this.#options.log('error', 'journal write failed', { reason: errorText(error) })
      throw new HostError('journal_full', 'the usage journal cannot be written', { cause: error })
    }
    this.#wrote()
    for (const record of records) this.#open.apply(record)
    this.#watch.look(this.#options.clock.nowMs(), this)
  }

  /**
   * Throws `journal_full` when no request may be opened: its settlement might find no room.
   */
  assertRoom(): void {
    this.#assertAlive()
    if (!this.#reserve.hold(this.#options.clock.nowMs())) {
      throw new HostError('journal_full', 'the disk of the usage journal is full')
    }
    if (this.#open.settlementBytes > this.#reserve.bytes) {
      throw new HostError('journal_full', 'more requests are open than there is room to settle')
    }
    if (!this.#isOverCap()) return
    this.#prune(() => this.#isOverCap())
    if (!this.#isOverCap()) return
    throw new HostError('journal_full', 'the usage journal is full: its events are not collected')
  }

  /** Says that every event in segments before `index` is acknowledged. */
  setShippedSegment(index: number): void {
    this.#shippedSegment = index
  }

  /** Everything appended is durable when it returns. Throws `journal_failed`. */
  flushSync(): void {
    this.#assertAlive()
    try {
      this.#fsync.flushSync()
    } catch (cause) {
      throw new HostError('journal_failed', 'the usage journal cannot be synced', { cause })
    }
  }

  /** Flushes, unless an fsync has failed, and closes; idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    try {
      if (!this.#hasFailed) this.#fsync.flushSync()
    } finally {
      this.#fsync.close()
      this.#unlock()
    }
  }

  #assertAlive(): void {
    if (!this.#hasFailed && !this.#isClosed) return
    throw new HostError('journal_failed', 'the usage journal has failed: the host ends')
  }

  #fail(error: Error): void {
    if (this.#hasFailed) return
    this.#hasFailed = true
    this.#options.log('error', 'journal fsync failed: nothing more is taken', {
      reason: errorText(error),
    })
    this.#options.onFailed?.(error)
  }

  #wrote(): void {
    const { index, size, fd } = this.#segment
    this.#spool.set(index, size, this.#options.clock.nowMs())
    this.#fsync.wrote(fd, { segment: index, offset: size })
  }

  /** Where no new segment can be had, the old one goes on. */
  #rotate(): void {
    // So a crash leaves no more than two segments in doubt.
    if (this.#fsync.isRetiring) this.flushSync()
    const { index, lastCrc } = this.#segment
    const create = () => this.#createSegment(index + 1, lastCrc, this.#open.list())
    try {
      this.#segment = this.#orWithoutShipped(create)
    } catch (error) {
      this.#options.log('warn', 'journal segment cannot be begun', { reason: errorText(error) })
      return
    }
    this.#fsync.directoryChanged()
    this.#wrote()
    this.#prune(() => false)
  }

  #createSegment(
    index: number,
    previousCrc: string | null,
    open: readonly OpenRequest[],
  ): SegmentFile {
    const { directory, hostId, log } = this.#options
    const head: JournalRecord = {
      t: 'segment',
      format: 2,
      journal_id: this.id,
      host_id: hostId,
      epoch: this.epoch,
      index,
      at: this.#nowIso(),
      previous_crc: previousCrc,
      open: [...open],
    }
    const segment = SegmentFile.create({ disk: this.#disk, log, directory }, index, head)
    this.#open.apply(head)
    return segment
  }

  #nowIso(): string {
    return new Date(this.#options.clock.nowMs()).toISOString()
  }

  /** On a full disk, tries again without segments that are shipped. */
  #orWithoutShipped<T>(write: () => T): T {
    try {
      return write()
    } catch (error) {
      if (!isDiskFull(error) || !this.#prune(() => true)) throw error
      return write()
    }
  }

  /** True when something went. */
  #prune(isShort: () => boolean): boolean {
    const end = Math.min(this.#shippedSegment, this.#segment.index)
    try {
      const isChanged = this.#spool.prune(end, this.#options.clock.nowMs(), isShort)
      if (isChanged) this.#fsync.directoryChanged()
      return isChanged
    } catch (error) {
      this.#options.log('warn', 'journal segment not removed', { reason: errorText(error) })
      return false
    }
  }

  #isOverCap(): boolean {
    return this.bytes + this.#open.settlementBytes >= this.#options.totalBytesMax
  }
}
