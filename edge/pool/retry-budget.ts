/**
 * How often requests may be sent to another host: a tenth of the requests of the last minute, or a
 * few where there were fewer. When much fails at once, trying all of it again is what keeps a pool
 * down; and a request that brings hosts down shall not be handed around.
 */
import { RETRIES_MIN, RETRY_SHARE, RETRY_WINDOW_MS } from '../limits.ts'

const SLICES = 60
const SLICE_MS = RETRY_WINDOW_MS / SLICES

export class RetryBudget {
  readonly #nowMs: () => number
  readonly #requests = new Float64Array(SLICES)
  readonly #retries = new Float64Array(SLICES)
  /** Number of the newest slice, since the clock's zero. */
  #slice: number

  /** `nowMs`: monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
    this.#slice = Math.floor(nowMs() / SLICE_MS)
  }

  /** A request begins. */
  begin(): void {
    this.#add(this.#requests)
  }

  /**
   * Takes one try at another host; false when there is none left. `retriesMin`: the least that a
   * window allows, such as the requests of a host that all have to go elsewhere when it dies.
   */
  take(retriesMin = RETRIES_MIN): boolean {
    this.#move()
    const allowed = Math.max(retriesMin, RETRY_SHARE * sum(this.#requests))
    if (sum(this.#retries) + 1 > allowed) return false
    this.#add(this.#retries)
    return true
  }

  #add(counts: Float64Array): void {
    this.#move()
    const i = this.#slice % SLICES
    counts[i] = (counts[i] ?? 0) + 1
  }

  #move(): void {
    const slice = Math.floor(this.#nowMs() / SLICE_MS)
    const first = Math.max(this.#slice + 1, slice - SLICES + 1)
    for (let i = first; i <= slice; i++) {
      this.#requests[i % SLICES] = 0
      this.#retries[i % SLICES] = 0
    }
    this.#slice = slice
  }
}

function sum(counts: Float64Array): number {
  let total = 0
  for (const count of counts) total += count
  return total
}
