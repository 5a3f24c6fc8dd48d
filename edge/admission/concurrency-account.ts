/**
 * Requests at once. An edge holds as many as it was granted, in use or not, and says so at least
 * every CONCURRENCY_RENEW_MS; what lies idle goes back.
 */
import type { ConcurrencyAsk, PortionGrant } from '#db/queries/portions.ts'
import { CONCURRENCY_PORTIONS, CONCURRENCY_RENEW_MS, IDLE_PORTION_MS } from '../limits.ts'
import { type Hold, LimitAccount } from './limit-account.ts'

/** A place may be free at any moment; the database knows only when leases end. */
const PLACE_RETRY_MS = 1000

export class ConcurrencyAccount extends LimitAccount {
  override readonly kind = 'concurrency'
  #held = 0n
  #inUse = 0n
  #askedMs = 0
  #free: bigint | null = null

  override take(need: bigint): Hold | null {
    return this.#held - this.#inUse < need ? null : this.#hold(need)
  }

  override ask(need: bigint, nowMs: number): ConcurrencyAsk {
    return this.#question(need, need + this.limit / CONCURRENCY_PORTIONS, nowMs)
  }

  override learn(grant: PortionGrant): void {
    this.limit = grant.limit ?? this.limit
    this.#free = grant.free
    this.#held += grant.granted
  }

  override takeGranted(grant: PortionGrant, need: bigint): Hold | null {
    return grant.granted < need ? null : this.#hold(need)
  }

  /** The next question says what is really held. */
  override lost(): void {}

  /** Alone, as if there were no other edges. */
  override takeOffline(need: bigint): Hold | null {
    if (this.#inUse + need > this.limit) return null
    const hold = this.#hold(need)
    if (this.#inUse > this.#held) this.#held = this.#inUse
    return hold
  }

  override upkeep(nowMs: number): ConcurrencyAsk | null {
    const isIdle = this.#held > this.#inUse && nowMs - this.usedMs >= IDLE_PORTION_MS
    if (isIdle) this.#held = this.#inUse
    const isDue = this.#held > 0n && nowMs - this.#askedMs >= CONCURRENCY_RENEW_MS
    return isIdle || isDue ? this.#question(0n, 0n, nowMs) : null
  }

  override isIdle(): boolean {
    return this.#held === 0n
  }

  override remaining(): bigint {
    return (this.#free ?? 0n) + this.#held - this.#inUse
  }

  protected override retryAfter(): number {
    return PLACE_RETRY_MS
  }

  #question(min: bigint, want: bigint, nowMs: number): ConcurrencyAsk {
    this.#askedMs = nowMs
    return { scopeId: this.scopeId, kind: this.kind, min, want, held: this.#held }
  }

  #hold(need: bigint): Hold {
    this.#inUse += need
    const end = (): void => {
      this.#inUse -= need
      this.freed()
    }
    return { leaseId: null, end, leave: end }
  }
}
