/**
 * Voids: usage events of the edge's own, with all counts zero, for requests that no host could
 * answer although one may have begun. A void has the next attempt's number, so whatever the lost
 * host reports later is not charged. They are kept in memory until the database has them: an edge
 * that dies before that leaves its customer with the tokens of an answer that nobody got.
 */
import type { Db } from '#db/database.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { type GenerateRequest, requestFacts, type UsageEvent } from '#protocol'
import { errorText } from '../errors.ts'
import { VOID_BATCH_EVENTS_MAX, VOIDS_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import type { EdgeMetrics } from '../metrics.ts'

export interface VoidOutboxOptions {
  readonly db: Db
  readonly metrics: EdgeMetrics
  readonly log: Log
  readonly nowMs: () => number
}

/** Stands where an event names its host. */
const EDGE_HOST_ID = 'edge'

export class VoidOutbox {
  readonly #options: VoidOutboxOptions
  #waiting: UsageEvent[] = []

  constructor(options: VoidOutboxOptions) {
    this.#options = options
  }

  /** Voids that the database does not have yet. */
  get size(): number {
    return this.#waiting.length
  }

  /** `attempt`: one that nobody else will use. Never rejects. */
  add(request: GenerateRequest, attempt: number): Promise<void> {
    this.#waiting.push(toVoid(request, attempt, new Date(this.#options.nowMs()).toISOString()))
    if (this.#waiting.length > VOIDS_MAX) {
      const lost = this.#waiting.shift()
      const fields = { request_id: lost?.request_id ?? '' }
      this.#options.log('error', 'too many voids wait for the database: one is lost', fields)
      this.#options.metrics.voids.add({ outcome: 'lost' })
    }
    return this.flush()
  }

  /**
   * Stores what waits; a job calls it again and again. Never rejects. Two at once store the same,
   * which is harmless; one that waited for another's would end with it, where a Worker's does.
   */
  async flush(): Promise<void> {
    const { db, metrics, log } = this.#options
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, VOID_BATCH_EVENTS_MAX)
      try {
        await recordUsageEvents(db, batch)
      } catch (error) {
        const fields = { waiting: this.#waiting.length, reason: errorText(error) }
        log('warn', 'voids wait for the database', fields)
        return
      }
      const stored = new Set(batch)
      this.#waiting = this.#waiting.filter((event) => !stored.has(event))
      metrics.voids.add({ outcome: 'stored' }, batch.length)
    }
  }
}

function toVoid(request: GenerateRequest, attempt: number, at: string): UsageEvent {
  return {
    ...requestFacts.parse(request),
    attempt,
    host_id: EDGE_HOST_ID,
    epoch: 0,
    prompt_tokens: 0,
    cached_prompt_tokens: 0,
    completion_tokens: 0,
    finish_reason: 'error',
    gpu_us: 0,
    queue_us: 0,
    ttft_us: null,
    swap_us: 0,
    adapter_bytes: 0,
    adapter_source: 'none',
    started_at: at,
    ended_at: at,
    source: 'edge',
  }
}
