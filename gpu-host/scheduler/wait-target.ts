/**
 * Up to which wait requests are let in. A line that comes and goes is a burst, and a second of it
 * nobody minds. One that stands makes every answer late and none sooner: a tenant's that has not
 * come down for a while is held to what waits are at a host that is not overloaded. Pure.
 */

/** A wait that nobody minds once, however short requests are. */
const BURST_MS = 1000
/** A line that has not been short for so long stands. */
const STANDING_MS = 1000
/** Below this part of the target a line is short. */
const SHORT_SHARE = 0.5
/** For less than this no queue is kept: hiccups are as long. */
const TARGET_MS_MIN = 100
/** A host is not overloaded when it is this busy, or less. */
const CALM_LOAD = 0.8
/** Of those who come to such a host, so many may wait longer than `calmWait` says. */
const CALM_LATE_SHARE = 0.01
/** How much longer than at such a host a wait may be. */
const LONGER_MAX = 2

/** Whoever was heard of longest ago is forgotten, and believed again. */
const TENANTS_MAX = 1000

interface Line {
  /** Since when it has not been short. */
  readonly sinceMs: number
  readonly seenMs: number
}

export class WaitTarget {
  readonly #calmWait: number
  readonly #lines = new Map<string, Line>()

  constructor(sequenceCount: number) {
    this.#calmWait = calmWait(sequenceCount)
  }

  /** A request of the tenant came, and would wait `waitMs`. `nowMs` monotonic. */
  observe(
    tenantId: string,
    line: { waitMs: number; serviceMs: number | null; nowMs: number },
  ): void {
    const { waitMs, serviceMs, nowMs } = line
    if (serviceMs === null || waitMs <= SHORT_SHARE * this.#standingMs(serviceMs)) return
    const known = this.#lines.get(tenantId)
    const goesOn = known !== undefined && nowMs - known.seenMs < STANDING_MS
    this.#lines.delete(tenantId)
    this.#lines.set(tenantId, { sinceMs: goesOn ? known.sinceMs : nowMs, seenMs: nowMs })
    if (this.#lines.size <= TENANTS_MAX) return
    for (const oldest of this.#lines.keys()) {
      this.#lines.delete(oldest)
      return
    }
  }

  /**
   * The wait up to which a request of the tenant that came at `atMs` is let in; `serviceMs` = what
   * requests take from their start to their end, null = not known.
   */
  allowedMs(tenantId: string, serviceMs: number | null, atMs: number): number {
    if (serviceMs === null) return BURST_MS
    const line = this.#lines.get(tenantId)
    const isFresh = line !== undefined && atMs - line.seenMs < STANDING_MS
    return isFresh && atMs - line.sinceMs >= STANDING_MS
      ? this.#standingMs(serviceMs)
      : Math.max(BURST_MS, serviceMs)
  }

  #standingMs(serviceMs: number): number {
    return Math.max(TARGET_MS_MIN, serviceMs * Math.min(1, LONGER_MAX * this.#calmWait))
  }
}

/**
 * The wait that one in a hundred passes at a calm host of so many sequences, in parts of what a
 * request takes: Erlang's C formula. The more sequences, the sooner one of them is free.
 */
export function calmWait(sequenceCount: number): number {
  const offered = CALM_LOAD * sequenceCount
  let blocked = 1
  for (let n = 1; n <= sequenceCount; n++) blocked = (offered * blocked) / (n + offered * blocked)
  const waiting = blocked / (1 - CALM_LOAD * (1 - blocked))
  const freed = sequenceCount * (1 - CALM_LOAD)
  return Math.max(0, Math.log(waiting / CALM_LATE_SHARE) / freed)
}
