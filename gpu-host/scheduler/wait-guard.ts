/**
 * Holds forecasts against what came of them, tenant by tenant: a flood is overtaken by those who
 * come after it, they are not overtaken by it. Where more than a few of an interval's starts had
 * to wait longer than was allowed, less of that tenant is admitted: its bound is cut by a third,
 * interval by interval, and comes back in small steps once waits are as they should be (additive
 * increase, multiplicative decrease). A forecast that is wrong, for whatever reason, then costs
 * one or two intervals. Pure.
 */
const INTERVAL_MS = 1000
const LATE_SHARE_MAX = 0.1
/** Waits up to this much beyond the bound are the forecast's normal error. */
const LATENESS_ALLOWED = 1.25
const CUT = 2 / 3
const STEP_BACK = 0.1
const FACTOR_MIN = 1 / 8

/** Whoever was heard of longest ago is forgotten, and believed again. */
const TENANTS_MAX = 1000

interface Watched {
  factor: number
  intervalStartMs: number
  starts: number
  late: number
}

export class WaitGuard {
  readonly #tenants = new Map<string, Watched>()

  /** Share of the allowed wait up to which the tenant's requests are admitted: 0 < factor ≤ 1. */
  factorOf(tenantId: string): number {
    return this.#tenants.get(tenantId)?.factor ?? 1
  }

  /** A request's wait is over: it starts, or is given up. `nowMs` monotonic. */
  observe(tenantId: string, wait: { waitMs: number; allowedMs: number; nowMs: number }): void {
    const { waitMs, allowedMs, nowMs } = wait
    const watched = this.#watch(tenantId, nowMs)
    if (nowMs - watched.intervalStartMs >= INTERVAL_MS) conclude(watched, nowMs)
    watched.starts += 1
    if (waitMs > allowedMs * LATENESS_ALLOWED) watched.late += 1
  }

  #watch(tenantId: string, nowMs: number): Watched {
    const known = this.#tenants.get(tenantId)
    const watched = known ?? { factor: 1, intervalStartMs: nowMs, starts: 0, late: 0 }
    this.#tenants.delete(tenantId)
    this.#tenants.set(tenantId, watched)
    if (this.#tenants.size > TENANTS_MAX) {
      for (const oldest of this.#tenants.keys()) {
        this.#tenants.delete(oldest)
        break
      }
    }
    return watched
  }
}

function conclude(watched: Watched, nowMs: number): void {
  const isLate = watched.late / watched.starts > LATE_SHARE_MAX
  watched.factor = isLate
    ? Math.max(FACTOR_MIN, watched.factor * CUT)
    : Math.min(1, watched.factor + STEP_BACK)
  watched.starts = 0
  watched.late = 0
  watched.intervalStartMs = nowMs
}
