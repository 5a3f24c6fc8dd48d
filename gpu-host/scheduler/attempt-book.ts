/**
 * What this host remembers of the requests it served of late: the highest attempt at each, and what
 * that attempt was settled at. With it a late or doubled call cannot run a request again, and a
 * request that was settled before its client is known to have left can still be corrected.
 */
import { HostError } from '../errors.ts'
import type { SettledRecord } from '../journal/record.ts'
import type { CancelRequest, GenerateRequest } from '../protocol.ts'

/** Far more than arrive within a grant's life; about a kilobyte each. */
const REQUESTS_MAX = 20_000

interface Page {
  readonly attempt: number
  /** null = not settled, or nothing was owed. */
  readonly settled: SettledRecord | null
}

export class AttemptBook {
  /** By request id; oldest first. */
  readonly #pages = new Map<string, Page>()

  /** Throws `request_duplicate` unless this attempt is newer than all that were seen. */
  assertNewer({ request_id, attempt }: Pick<GenerateRequest, 'request_id' | 'attempt'>): void {
    const seen = this.#pages.get(request_id)?.attempt ?? 0
    if (attempt > seen) return
    throw new HostError('request_duplicate', `attempt ${seen} at this request was here before`)
  }

  hasSeen(requestId: string): boolean {
    return this.#pages.has(requestId)
  }

  /** An attempt runs here, or is known to have been given up before it came. */
  enter({ request_id, attempt }: Pick<GenerateRequest, 'request_id' | 'attempt'>): void {
    if (attempt <= (this.#pages.get(request_id)?.attempt ?? 0)) return
    this.#write(request_id, { attempt, settled: null })
  }

  settle(record: SettledRecord): void {
    const { event } = record
    if (event === null || this.#pages.get(event.request_id)?.attempt !== event.attempt) return
    this.#write(event.request_id, { attempt: event.attempt, settled: record })
  }

  /**
   * The record that takes the place of the settled one, under the next attempt; null when nothing
   * was settled beyond what the client got. Asked twice, it answers once.
   */
  correct(cancel: CancelRequest, nowIso: string): SettledRecord | null {
    const { settled } = this.#pages.get(cancel.request_id) ?? {}
    const event = settled?.event
    if (settled == null || event == null || event.attempt !== cancel.attempt) return null
    if (event.completion_tokens <= cancel.delivered_tokens) return null
    const attempt = event.attempt + 1
    const corrected: SettledRecord = {
      ...settled,
      code: 'request_aborted',
      event: {
        ...event,
        attempt,
        completion_tokens: cancel.delivered_tokens,
        finish_reason: 'abort',
        ended_at: nowIso,
      },
    }
    this.#write(cancel.request_id, { attempt, settled: corrected })
    return corrected
  }

  #write(requestId: string, page: Page): void {
    this.#pages.delete(requestId)
    this.#pages.set(requestId, page)
    if (this.#pages.size <= REQUESTS_MAX) return
    const [oldest] = this.#pages.keys()
    if (oldest !== undefined) this.#pages.delete(oldest)
  }
}
