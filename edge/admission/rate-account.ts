/**
 * Requests or tokens per minute. A portion is good for the slice of time that it was granted in;
 * what is left of it, and what a request took and did not use, goes back: to the portion while its
 * slice lasts, to the database with the next question after that.
 */
import type { PortionGrant, RateAsk } from '#db/queries/portions.ts'
import { RATE_PORTIONS } from '../limits.ts'
import { type Hold, LimitAccount } from './limit-account.ts'
import { leavesAtMs, RateWindow } from './rate-window.ts'

export class RateAccount extends LimitAccount {
  readonly kind: 'requests' | 'tokens'
  readonly #window = new RateWindow()
  #credit = 0n
  #slice = 0
  #validUntilMs = 0
  /** By slice, to be given back. */
  readonly #refunds = new Map<number, bigint>()
  /** What nobody held when the database was last asked; null = never. */
  #free: bigint | null = null

  constructor(kind: 'requests' | 'tokens', scopeId: string, limit: bigint) {
    super(scopeId, limit)
    this.kind = kind
  }

  override take(need: bigint, nowMs: number): Hold | null {
    if (nowMs >= this.#validUntilMs || this.#credit < need) return null
    this.#credit -= need
    return this.#hold(need, nowMs, this.#slice)
  }

  override ask(need: bigint): RateAsk {
    this.#giveBackCredit()
    return this.#question(need, need + this.limit / RATE_PORTIONS)
  }

  override learn(grant: PortionGrant): void {
    this.limit = grant.limit ?? this.limit
    this.#free = grant.free
  }

  override takeGranted(grant: PortionGrant, need: bigint, sentMs: number): Hold | null {
    if (grant.granted < need) return null
    this.#giveBackCredit()
    this.#slice = grant.slice
    this.#validUntilMs = sentMs + grant.validMs
    this.#credit = grant.granted - need
    return this.#hold(need, sentMs, grant.slice)
  }

  /** What it gave back may have arrived: given back twice, it would be granted twice. */
  override lost(): void {}

  /** Alone, as if there were no other edges. */
  override takeOffline(need: bigint, nowMs: number): Hold | null {
    if (this.#window.sum(nowMs) + need > this.limit) return null
    return this.#hold(need, nowMs, null)
  }

  override upkeep(nowMs: number): RateAsk | null {
    if (nowMs >= this.#validUntilMs) this.#giveBackCredit()
    for (const slice of this.#refunds.keys()) {
      if (leavesAtMs(slice) <= nowMs) this.#refunds.delete(slice)
    }
    return this.#refunds.size === 0 ? null : this.#question(0n, 0n)
  }

  override isIdle(nowMs: number): boolean {
    return this.#credit === 0n && this.#refunds.size === 0 && this.#window.sum(nowMs) === 0n
  }

  override remaining(nowMs: number): bigint {
    const own = this.limit - this.#window.sum(nowMs)
    let known = (this.#free ?? own) + this.#credit
    for (const units of this.#refunds.values()) known += units
    // biome-ignore lint/complexity/useMathMinMax: Math.min takes no bigint.
    const least = known < own ? known : own
    return least < 0n ? 0n : least
  }

  /** Until the whole limit is there again. */
  resetMs(nowMs: number): number {
    return this.#window.resetMs(nowMs)
  }

  #hold(need: bigint, nowMs: number, slice: number | null): Hold {
    this.#window.add(nowMs, need)
    return {
      leaseId: null,
      // As if all of it had been used.
      leave: () => {},
      end: (used) => {
        const back = need - used
        if (back <= 0n) return
        this.#window.add(nowMs, -back)
        if (slice === null) return
        if (slice === this.#slice) this.#credit += back
        else this.#refund(slice, back)
        this.freed()
      },
    }
  }

  #question(min: bigint, want: bigint): RateAsk {
    const refunds = [...this.#refunds].map(([slice, units]) => ({ slice, units }))
    this.#refunds.clear()
    return { scopeId: this.scopeId, kind: this.kind, min, want, refunds }
  }

  #giveBackCredit(): void {
    if (this.#credit > 0n) this.#refund(this.#slice, this.#credit)
    this.#credit = 0n
  }

  #refund(slice: number, units: bigint): void {
    this.#refunds.set(slice, (this.#refunds.get(slice) ?? 0n) + units)
  }
}
