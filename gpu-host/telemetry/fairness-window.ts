/**
 * How evenly the host has served, of late, the tenants that it could not serve at once: Jain's
 * index of their tokens ÷ weight, (Σx)² ÷ (n · Σx²). 1 = all got the same for their weight; 1/n =
 * one of n got everything. One number, whatever the number of tenants, so that no tenant is a
 * label. Pure: times are handed in, monotonic microseconds of one clock.
 *
 * A tenant counts when one of its requests waited, or waits. One that asks for little gets little
 * of what the others leave it, and the index cannot tell that from being kept from more: read it
 * beside the longest wait.
 */

/** A start sooner than that is a start at once. */
export const CONTENDED_US_MIN = 100_000
/** The index is of the last one to two of these. */
const SPAN_US = 30_000_000
/** Of a span; later ones are not counted in it. */
const TENANTS_MAX = 10_000

export interface WeighedTenant {
  readonly tenantId: string
  readonly weight: number
}

interface Tally {
  tokensByWeight: number
  hasWaited: boolean
}

export class FairnessWindow {
  #span = Number.NEGATIVE_INFINITY
  #now = new Map<string, Tally>()
  #before = new Map<string, Tally>()

  /** Tokens drawn, or the same in prompt, ran for the tenant. */
  served(tenant: WeighedTenant, tokens: number, nowUs: number): void {
    const tally = this.#tallyOf(tenant.tenantId, nowUs)
    if (tally !== null) tally.tokensByWeight += tokens / tenant.weight
  }

  /** A request of the tenant did not start at once. */
  waited(tenant: WeighedTenant, nowUs: number): void {
    const tally = this.#tallyOf(tenant.tenantId, nowUs)
    if (tally !== null) tally.hasWaited = true
  }

  /** `waiting`: tenants with a request in the queue, and how long. 1 where no two had to wait. */
  index(nowUs: number, waiting: readonly { tenantId: string; waitUs: number }[]): number {
    this.#turn(nowUs)
    const contended = new Set(
      waiting.filter(({ waitUs }) => waitUs >= CONTENDED_US_MIN).map(({ tenantId }) => tenantId),
    )
    for (const span of [this.#now, this.#before]) {
      for (const [tenantId, { hasWaited }] of span) if (hasWaited) contended.add(tenantId)
    }
    const shares = Array.from(contended, (tenantId) =>
      [this.#now, this.#before].reduce(
        (sum, span) => sum + (span.get(tenantId)?.tokensByWeight ?? 0),
        0,
      ),
    )
    return jainIndex(shares)
  }

  #tallyOf(tenantId: string, nowUs: number): Tally | null {
    this.#turn(nowUs)
    const known = this.#now.get(tenantId)
    if (known !== undefined) return known
    if (this.#now.size >= TENANTS_MAX) return null
    const tally = { tokensByWeight: 0, hasWaited: false }
    this.#now.set(tenantId, tally)
    return tally
  }

  #turn(nowUs: number): void {
    const span = Math.floor(nowUs / SPAN_US)
    if (span <= this.#span) return
    this.#before = span === this.#span + 1 ? this.#now : new Map()
    this.#now = new Map()
    this.#span = span
  }
}

/** 1 for fewer than two values, and where all are 0. */
export function jainIndex(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0)
  const squares = values.reduce((total, value) => total + value * value, 0)
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares)
}
