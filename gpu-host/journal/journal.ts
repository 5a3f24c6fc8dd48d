/**
 * The journal: what the host owes the bill, on disk before anybody is told. `append` returns after
 * the records were written to the file (they survive the death of the process); an fsync follows
 * within `fsyncIntervalMs` (they survive the death of the machine). Segments rotate by size; each
 * begins with what is open, so old ones can go once their events are shipped.
 *
 * Invariant: the file always ends in a whole record. A write that fails is cut off again and throws
 * `journal_full`, and the caller sends nothing.
 */
import type { Clock } from '../clock.ts'
import { HostError } from '../errors.ts'
import { errorText, type Log } from '../log.ts'
import { createUsageEvent } from '../telemetry/usage-event.ts'
import { type Disk, nodeDisk } from './disk.ts'
import { syncDirectory, writeFully } from './durable-file.ts'
import { nextEpoch } from './epoch.ts'
import { type OpenRequest, OpenRequests } from './open-requests.ts'
import { CHAIN_START, encodeRecord, type JournalRecord, type SettledRecord } from './record.ts'
import { type JournalRecovery, recoverJournal } from './recovery.ts'
import { listSegments, segmentPath } from './segment.ts'

export interface JournalOptions {
  readonly directory: string
  readonly hostId: string
  readonly clock: Clock
  readonly log: Log
  readonly segmentBytesMax: number
  /** All segments together; above it, and with nothing shipped to remove, requests are refused. */
  readonly totalBytesMax: number
  readonly retentionMs: number
  readonly fsyncIntervalMs: number
  /** Oldest segment with events that the edge has not acknowledged. */
  readonly shippedSegment: number
  /** The machine's own by default; another in tests of disks that fail. */
  readonly disk?: Disk
}

export class Journal {
  readonly epoch: number
  readonly recovery: JournalRecovery
  readonly #options: JournalOptions
  readonly #disk: Disk
  readonly #unlock: () => void
  readonly #open = new OpenRequests()
  #fd = -1
  #index: number
  #segmentBytes = 0
  #olderBytes = 0
  #chain = CHAIN_START
  #cancelFsync: (() => void) | null = null
  #shippedSegment: number

  /** Recovers what the last run left, closes its open requests, and starts a segment. */
  constructor(options: JournalOptions) {
    const disk = options.disk ?? nodeDisk
    disk.makeDirectory(options.directory)
    this.#options = options
    this.#disk = disk
    this.#unlock = disk.lock(options.directory)
    this.#shippedSegment = options.shippedSegment
    this.epoch = nextEpoch(disk, options.directory)
    this.recovery = recoverJournal(disk, options.directory, options.shippedSegment)
    for (const { level, message, fields } of this.recovery.notices) {
      options.log(level, message, fields)
    }
    for (const index of listSegments(disk, options.directory)) {
      this.#olderBytes += disk.stat(segmentPath(options.directory, index)).size
    }
    this.#index = this.recovery.nextIndex
    this.#openSegment(this.recovery.lastCrc, this.recovery.open)
    const recovered = this.recovery.open.map((entry) => this.#settleRecovered(entry))
    if (recovered.length > 0) this.append(recovered)
    this.flushSync()
  }

  /** Bytes of all segments on disk. */
  get bytes(): number {
    return this.#olderBytes + this.#segmentBytes
  }

  get openCount(): number {
    return this.#open.size
  }

  /** One write for all `records`, in order. Throws `journal_full`; then none of them was kept. */
  append(records: readonly JournalRecord[]): void {
    if (this.#segmentBytes >= this.#options.segmentBytesMax) this.#rotate()
    this.#write(records)
    this.#cancelFsync ??= this.#options.clock.setTimer(this.#options.fsyncIntervalMs, () => {
      this.#cancelFsync = null
      this.#disk.fsync(this.#fd, (error) => {
        if (error) this.#options.log('error', 'journal fsync failed', { reason: error.message })
      })
    })
  }

  /** Throws `journal_full` when no request may be opened any more. */
  assertRoom(): void {
    if (this.bytes < this.#options.totalBytesMax) return
    this.#prune()
    if (this.bytes < this.#options.totalBytesMax) return
    throw new HostError('journal_full', 'the usage journal is full: its events are not collected')
  }

  /** Says that every event in segments before `index` is acknowledged. */
  setShippedSegment(index: number): void {
    this.#shippedSegment = index
  }

  flushSync(): void {
    this.#cancelFsync?.()
    this.#cancelFsync = null
    this.#disk.fsyncSync(this.#fd)
  }

  /** Flushes and closes; idempotent. */
  close(): void {
    if (this.#fd < 0) return
    this.flushSync()
    this.#disk.close(this.#fd)
    this.#fd = -1
    this.#unlock()
  }

  #write(records: readonly JournalRecord[]): void {
    let chain = this.#chain
    let text = ''
    for (const record of records) {
      const encoded = encodeRecord(record, chain)
      text += encoded.line
      chain = encoded.next
    }
    const bytes = Buffer.from(text)
    try {
      writeFully(this.#disk, this.#fd, bytes)
    } catch (error) {
      this.#disk.truncate(this.#fd, this.#segmentBytes)
      this.#options.log('error', 'journal write failed', { reason: errorText(error) })
      throw new HostError('journal_full', 'the usage journal cannot be written', { cause: error })
    }
    this.#segmentBytes += bytes.length
    this.#chain = chain
    for (const record of records) this.#open.apply(record)
  }

  #rotate(): void {
    const open = this.#open.list()
    const oldFd = this.#fd
    const lastCrc = this.#chain.crc
    const oldBytes = this.#segmentBytes
    this.#index += 1
    this.#openSegment(lastCrc, open)
    this.#olderBytes += oldBytes
    this.#disk.fsync(oldFd, (error) => {
      if (error) this.#options.log('error', 'journal fsync failed', { reason: error.message })
      this.#disk.close(oldFd)
    })
    this.#prune()
  }

  #openSegment(previousCrc: string | null, open: readonly OpenRequest[]): void {
    const { directory, hostId, clock } = this.#options
    this.#fd = this.#disk.open(segmentPath(directory, this.#index), 'create')
    syncDirectory(this.#disk, directory)
    this.#segmentBytes = this.#disk.size(this.#fd)
    this.#chain = CHAIN_START
    this.#write([
      {
        t: 'segment',
        format: 1,
        host_id: hostId,
        epoch: this.epoch,
        index: this.#index,
        at: new Date(clock.nowMs()).toISOString(),
        previous_crc: previousCrc,
        open: [...open],
      },
    ])
  }

  /** Removes shipped segments that are past retention, or sooner where space is short. */
  #prune(): void {
    const { directory, clock, retentionMs, totalBytesMax } = this.#options
    for (const index of listSegments(this.#disk, directory)) {
      if (index >= this.#shippedSegment || index >= this.#index) return
      const path = segmentPath(directory, index)
      const { size, mtimeMs } = this.#disk.stat(path)
      const isPast = clock.nowMs() - mtimeMs > retentionMs
      if (!isPast && this.bytes < totalBytesMax) return
      this.#disk.unlink(path)
      this.#olderBytes -= size
    }
  }

  #settleRecovered({ opened, started, progress }: OpenRequest): SettledRecord {
    const [, promptRows = 0, completionTokens = 0, gpuUs = 0] = progress ?? []
    const event = createUsageEvent({
      request: opened.request,
      hostId: this.#options.hostId,
      epoch: this.epoch,
      finish: 'error',
      totals: {
        promptRows,
        cachedPromptTokens: started?.cached_prompt_tokens ?? 0,
        completionTokens,
        gpuUs,
      },
      queueUs: started?.queue_us ?? 0,
      ttftUs: started?.ttft_us ?? null,
      swapUs: started?.swap_us ?? 0,
      adapterBytes: started?.adapter_bytes ?? 0,
      source: started?.source ?? 'none',
      startedAt: opened.at,
      endedAt: new Date(this.#options.clock.nowMs()).toISOString(),
      origin: 'recovered',
    })
    return { t: 'settled', n: opened.n, code: 'host_restarted', event }
  }
}
