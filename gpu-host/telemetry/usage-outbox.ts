/**
 * Ships settled usage events to the edge, at least once, until each is acknowledged. The journal is
 * the queue and a small file holds how far the edge has acknowledged, so nothing is lost when the
 * edge is away or the host restarts; what is sent twice, the edge knows by its request id.
 */
import { randomUUID } from 'node:crypto'
import { type Clock, sleep } from '../clock.ts'
import type { Disk } from '../journal/disk.ts'
import { type JournalCursor, readSettled } from '../journal/settled-reader.ts'
import { writeShippedCursor } from '../journal/shipped-cursor.ts'
import { errorText, type Log } from '../log.ts'
import { EDGE_ROUTES, type UsageBatch, usageBatchReceipt } from '../protocol.ts'
import type { EdgePort } from './edge-client.ts'
import type { HostMetrics } from './metrics.ts'

export interface UsageOutboxOptions {
  readonly directory: string
  readonly disk: Disk
  readonly hostId: string
  /** null = there is no edge: events stay in the journal. */
  readonly edge: EdgePort | null
  readonly metrics: HostMetrics
  readonly clock: Clock
  readonly log: Log
  /** Up to where the journal survives the death of the machine: no further is shipped. */
  readonly durable: () => JournalCursor
  /** Told how far the edge has acknowledged. */
  readonly onShipped: (segment: number) => void
}

const EVENTS_PER_BATCH_MAX = 500
const POLL_MS = 200
const TIMEOUT_MS = 10_000
const RETRY_MS_MIN = 500
/** Short, since an edge that cannot store answers at once: the backlog leaves soon after. */
const RETRY_MS_MAX = 5000

export class UsageOutbox {
  readonly #options: UsageOutboxOptions
  #cursor: JournalCursor
  #retryMs = 0

  constructor(options: UsageOutboxOptions, cursor: JournalCursor) {
    this.#options = options
    this.#cursor = cursor
  }

  /** Events not acknowledged, counted in the journal; stops counting at 10,000. */
  countUnshipped(): number {
    const { directory, disk } = this.#options
    return readSettled(directory, this.#cursor, 10_000, { disk }).events.length
  }

  /** End of the oldest event that is not acknowledged, Unix milliseconds; null = there is none. */
  oldestUnshippedMs(): number | null {
    const { directory, disk } = this.#options
    const [oldest] = readSettled(directory, this.#cursor, 1, { disk }).events
    return oldest === undefined ? null : Date.parse(oldest.ended_at)
  }

  /** Ships until `signal` aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    while (!signal.aborted) {
      const isDone = await this.shipOnce()
      if (isDone === 'more') continue
      await sleep(clock, isDone === 'failed' ? this.#retryMs : POLL_MS, signal)
    }
  }

  /**
   * Tries to ship everything there is, giving up at the first failure; true when all is shipped.
   */
  async flush(): Promise<boolean> {
    for (;;) {
      const outcome = await this.shipOnce()
      if (outcome !== 'more') return outcome === 'empty'
    }
  }

  /** One batch. `more`: it was acknowledged, there may be another. Never rejects. */
  async shipOnce(): Promise<'empty' | 'more' | 'failed'> {
    const { directory, disk, durable, hostId, edge, metrics, log } = this.#options
    if (edge === null) return 'empty'
    try {
      const page = readSettled(directory, this.#cursor, EVENTS_PER_BATCH_MAX, {
        disk,
        until: durable(),
      })
      if (page.events.length > 0) {
        const batch: UsageBatch = { host_id: hostId, events: [...page.events] }
        const reply = await edge.post(EDGE_ROUTES.usage, `shp_${randomUUID()}`, batch, TIMEOUT_MS)
        const { inserted, known } = usageBatchReceipt.parse(reply)
        if (inserted + known !== page.events.length) {
          throw new Error(
            `the edge acknowledged ${inserted + known} of ${page.events.length} events`,
          )
        }
      }
      await this.#acknowledge(page.cursor, page.events.length > 0)
      if (this.#retryMs > 0) log('info', 'usage is shipped again')
      this.#retryMs = 0
      return page.events.length > 0 ? 'more' : 'empty'
    } catch (error) {
      metrics.usageShipFailures.inc()
      if (this.#retryMs === 0) log('warn', 'usage not shipped', { reason: errorText(error) })
      this.#retryMs = Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, this.#retryMs * 2))
      return 'failed'
    }
  }

  /** The file moves only with events: behind by empty records, it costs a re-read, no more. */
  async #acknowledge(cursor: JournalCursor, hasEvents: boolean): Promise<void> {
    const { directory, disk, onShipped } = this.#options
    const isNewSegment = cursor.segment !== this.#cursor.segment
    this.#cursor = cursor
    if (!hasEvents && !isNewSegment) return
    await writeShippedCursor(disk, directory, cursor)
    onShipped(cursor.segment)
  }
}
