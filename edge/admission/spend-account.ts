/**
 * A month's budget. A request reserves the most that it can cost from a lease of the edge's; at its
 * end the lease keeps what it did cost. A lease that is not current any more shrinks to what its
 * requests cost or still can, and is returned when none is under way.
 */
import { createId } from '#db/ids.ts'
import type { LeaseReport, PortionGrant, SpendAsk } from '#db/queries/portions.ts'
import { IDLE_PORTION_MS, LEASE_RENEW_MS, LEASE_WANT_FACTOR, OUTAGE_SHARE } from '../limits.ts'
import { type AwaitedRequest, type Hold, LimitAccount } from './limit-account.ts'

interface Lease {
  readonly id: string
  amount: bigint
  /** Most that requests under way can cost. */
  reserved: bigint
  /** What ended requests cost. */
  used: bigint
  /** As last told to the database; null = not at all since it was granted. */
  reported: bigint | null
  reportedMs: number
}

export interface AwaitedCost extends AwaitedRequest {
  readonly hold: Hold
}

export class SpendAccount extends LimitAccount {
  override readonly kind = 'spend'
  readonly month: string
  readonly #leases = new Map<string, Lease>()
  #current: Lease | null = null
  #currentUntilMs = 0
  /** Of the question under way. */
  #asked: {
    readonly leaseId: string
    readonly isWanted: boolean
    readonly returned: readonly string[]
  } | null = null
  #free: bigint | null = null
  #offlineUsed = 0n
  readonly #awaited = new Set<AwaitedCost>()

  constructor(scopeId: string, limit: bigint, month: string) {
    super(scopeId, limit)
    this.month = month
  }

  get openLeases(): number {
    return this.#leases.size
  }

  override take(need: bigint, nowMs: number): Hold | null {
    const lease = this.#current
    if (lease === null || nowMs >= this.#currentUntilMs || roomOf(lease) < need) return null
    return this.#hold(lease, need)
  }

  override ask(need: bigint, nowMs: number): SpendAsk {
    this.#current = null
    return this.#question(need, need * LEASE_WANT_FACTOR, nowMs)
  }

  override learn(grant: PortionGrant): void {
    this.limit = grant.limit ?? this.limit
    this.#free = grant.free
    this.#offlineUsed = 0n
    for (const id of this.#asked?.returned ?? []) this.#leases.delete(id)
  }

  override takeGranted(grant: PortionGrant, need: bigint, sentMs: number): Hold | null {
    if (this.#asked === null || grant.granted < need) return null
    const lease = createLease(this.#asked.leaseId, grant.granted, sentMs)
    this.#leases.set(lease.id, lease)
    this.#current = lease
    this.#currentUntilMs = sentMs + grant.validMs
    return this.#hold(lease, need)
  }

  /** It may have been granted: it goes back unused. */
  override lost(): void {
    if (this.#asked?.isWanted) {
      const { leaseId } = this.#asked
      this.#leases.set(leaseId, createLease(leaseId, 0n, 0))
    }
    this.#asked = null
  }

  /** Of a lease while there is room, then a share of what was left when last asked. */
  override takeOffline(need: bigint): Hold | null {
    for (const lease of this.#leases.values()) {
      if (roomOf(lease) >= need) return this.#hold(lease, need)
    }
    if (this.#free === null || this.#offlineUsed + need > this.#free / OUTAGE_SHARE) return null
    this.#offlineUsed += need
    return {
      leaseId: null,
      end: (used) => {
        this.#offlineUsed -= need - used
      },
      leave: () => {},
    }
  }

  override upkeep(nowMs: number): SpendAsk | null {
    const isIdle = nowMs >= this.#currentUntilMs || nowMs - this.usedMs >= IDLE_PORTION_MS
    if (isIdle) this.#current = null
    for (const awaited of this.#awaited) {
      if (nowMs >= awaited.untilMs) this.settleAwaited(awaited, 0n)
    }
    const isDue = this.#retired().some(
      (lease) => spentOf(lease) !== lease.reported || nowMs - lease.reportedMs >= LEASE_RENEW_MS,
    )
    return isDue ? this.#question(0n, 0n, nowMs) : null
  }

  /** Requests whose cost the ledger has to tell. */
  get awaited(): readonly AwaitedCost[] {
    return [...this.#awaited]
  }

  settleAwaited(awaited: AwaitedCost, cost: bigint): void {
    if (this.#awaited.delete(awaited)) awaited.hold.end(cost)
  }

  override isIdle(): boolean {
    return this.#leases.size === 0
  }

  override remaining(): bigint {
    return this.#free ?? 0n
  }

  #retired(): Lease[] {
    return [...this.#leases.values()].filter((lease) => lease !== this.#current)
  }

  #question(min: bigint, want: bigint, nowMs: number): SpendAsk {
    const leaseId = createId('lea')
    const reports = this.#retired().map((lease) => toReport(lease, nowMs))
    const returned = reports.filter(({ isReturned }) => isReturned).map(({ id }) => id)
    this.#asked = { leaseId, isWanted: want > 0n, returned }
    const { scopeId, kind, month } = this
    return { scopeId, kind, month, leaseId, min, want, reports }
  }

  #hold(lease: Lease, need: bigint): Hold {
    lease.reserved += need
    const hold: Hold = {
      leaseId: lease.id,
      end: (used) => {
        lease.reserved -= need
        lease.used += used
        this.freed()
      },
      // All of it stays reserved until the ledger tells.
      leave: (request) => {
        this.#awaited.add({ ...request, hold })
      },
    }
    return hold
  }
}

function createLease(id: string, amount: bigint, nowMs: number): Lease {
  return { id, amount, reserved: 0n, used: 0n, reported: null, reportedMs: nowMs }
}

function roomOf({ amount, reserved, used }: Lease): bigint {
  return amount - reserved - used
}

function spentOf({ reserved, used }: Lease): bigint {
  return reserved + used
}

/** From here on the lease holds no more than it says. */
function toReport(lease: Lease, nowMs: number): LeaseReport {
  lease.amount = spentOf(lease)
  lease.reported = lease.amount
  lease.reportedMs = nowMs
  return { id: lease.id, amountPusd: lease.amount, isReturned: lease.reserved === 0n }
}
