/**
 * Holds forecasts against what came of them. Where more than a few of an interval's starts had to
 * wait longer than was allowed, less is admitted: the bound is cut by a third, interval by
 * interval, and comes back in small steps once waits are as they should be (additive increase,
 * multiplicative decrease). A forecast that is wrong, for whatever reason, then costs one or two
 * intervals. Pure.
 */
const INTERVAL_MS = 1000
const LATE_SHARE_MAX = 0.1
/** Waits up to this much beyond the bound are the forecast's normal error. */
const LATENESS_ALLOWED = 1.25
const CUT = 2 / 3
const STEP_BACK = 0.1
const FACTOR_MIN = 1 / 8

export class WaitGuard {
  #factor = 1
  #intervalStartMs = Number.NEGATIVE_INFINITY
  #starts = 0
  #late = 0

  /** Share of the allowed wait up to which requests are admitted now: 0 < factor ≤ 1. */
  get factor(): number {
    return this.#factor
  }

  /** A request's wait is over: it starts, or is given up. `nowMs` monotonic. */
  observe(waitMs: number, allowedMs: number, nowMs: number): void {
    if (nowMs - this.#intervalStartMs >= INTERVAL_MS) {
      this.#conclude()
      this.#intervalStartMs = nowMs
    }
    this.#starts += 1
    if (waitMs > allowedMs * LATENESS_ALLOWED) this.#late += 1
  }

  #conclude(): void {
    if (this.#starts > 0) {
      const isLate = this.#late / this.#starts > LATE_SHARE_MAX
      this.#factor = isLate
        ? Math.max(FACTOR_MIN, this.#factor * CUT)
        : Math.min(1, this.#factor + STEP_BACK)
    }
    this.#starts = 0
    this.#late = 0
  }
}
