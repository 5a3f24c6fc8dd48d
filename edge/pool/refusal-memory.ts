/**
 * What hosts refused a moment ago, so that a tenant whose requests the whole pool refuses hears so
 * at once instead of asking every host again. By tenant: its queue may be full where others' are
 * not.
 */
import type { EdgeError } from '../errors.ts'
import { HOST_REFUSAL_KEPT_MS } from '../limits.ts'

interface Refusal {
  readonly error: EdgeError
  readonly untilMs: number
}

/** Above this, what is over is cleared away. */
const ENTRIES_MAX = 10_000

export class RefusalMemory {
  readonly #nowMs: () => number
  readonly #refusals = new Map<string, Refusal>()

  /** `nowMs`: monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  remember(hostId: string, tenantId: string, error: EdgeError): void {
    if (this.#refusals.size >= ENTRIES_MAX) this.#clear()
    const keptMs = Math.min(HOST_REFUSAL_KEPT_MS, error.retryAfterMs ?? HOST_REFUSAL_KEPT_MS)
    const key = toKey(hostId, tenantId)
    // The order of a Map is that of insertion: the oldest are first.
    this.#refusals.delete(key)
    this.#refusals.set(key, { error, untilMs: this.#nowMs() + keptMs })
  }

  /** What the host would say again; null = nobody knows. */
  recall(hostId: string, tenantId: string): EdgeError | null {
    const refusal = this.#refusals.get(toKey(hostId, tenantId))
    return refusal === undefined || refusal.untilMs <= this.#nowMs() ? null : refusal.error
  }

  #clear(): void {
    for (const [key, { untilMs }] of this.#refusals) {
      if (untilMs > this.#nowMs() && this.#refusals.size < ENTRIES_MAX) return
      this.#refusals.delete(key)
    }
  }
}

function toKey(hostId: string, tenantId: string): string {
  return `${hostId}\n${tenantId}`
}
