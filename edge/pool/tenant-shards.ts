/**
 * How far a tenant's requests may reach, so that one whose requests break hosts cannot break many.
 * An answer shows that they do no harm. A host that is lost under one is a strike, and every answer
 * to a later request takes one back.
 *
 * - Requests that have shown nothing yet are on `shardHosts` hosts at once, fewer by the strikes
 *   (the first after answers is free) and more by the answers since the last one.
 * - `shardHosts` strikes hold the tenant: nothing for HOLD_MS, twice as long each time, then one
 *   request on trial, on a host that was lost before where one is back.
 *
 * So a tenant that gets no answer breaks `shardHosts` hosts at most, and one more with each trial
 * while those are still away. Strikes at one moment are one where there had been answers, since
 * hosts fail for other reasons, too. A host that goes on as the same process was not broken, and
 * its strikes are void. What one edge sees no other knows: the bound is each edge's own.
 */
import { putLast } from '../bounded-map.ts'
import {
  ANSWERS_PER_HOST,
  HOLD_MS,
  HOLD_MS_MAX,
  LOSS_SEEN_MS,
  PLACEMENTS_MAX,
  PROOF_CHUNKS,
  SHARD_GROWTH,
  SHARD_HOSTS_AT,
  SHARD_HOSTS_MIN,
  STRIKE_KEPT_MS,
} from '../limits.ts'

/** Where a tenant's next request may go. */
export type Reach =
  | { readonly kind: 'any' }
  /** To hosts with these ids; on trial to another where none of them takes requests. */
  | { readonly kind: 'only'; readonly hostIds: ReadonlySet<string>; readonly isTrial: boolean }
  | { readonly kind: 'none'; readonly retryAfterMs: number }

/** How a request left a host; `lost` = the host was lost under it. */
export type VisitEnding = 'answered' | 'lost' | 'other'

/** Hears of a tenant that is held, for how long, and of the hosts that were lost under it. */
export type OnHeld = (tenantId: string, lostHostIds: readonly string[], forMs: number) => void

interface Tenant {
  /** Host id → requests there that have shown nothing yet. */
  readonly unproven: Map<string, number>
  readonly lostHostIds: Set<string>
  strikes: number
  struckMs: number
  /** Hosts of the pool at the last strike. */
  struckPoolHosts: number
  /** Number of the first visit after the last strike. */
  struckVisit: number
  /** There had been answers before the last strike. */
  wasTrusted: boolean
  /** Since the last strike. */
  answers: number
  heldUntilMs: number
  holdMs: number
}

/** After a trial has begun the next request waits for its end. */
const TRIAL_RETRY_MS = 1000

export class TenantShards {
  readonly #nowMs: () => number
  readonly #onHeld: OnHeld
  /** Longest unseen first. */
  readonly #tenants = new Map<string, Tenant>()
  /** Lost hosts that were not heard of since, by id. */
  readonly #losses = new Map<string, { readonly epoch: number; readonly atMs: number }>()
  /** Host id → its start, as last heard. */
  readonly #epochs = new Map<string, number>()
  #visits = 0

  /** `nowMs` monotonic. */
  constructor(nowMs: () => number, onHeld: OnHeld) {
    this.#nowMs = nowMs
    this.#onHeld = onHeld
  }

  /**
   * `poolHosts`: how many take requests for the base model. `isDraining`: of a host that takes no
   * new ones, while those that it has run on.
   */
  reach(
    tenantId: string,
    poolHosts: number,
    isDraining: (hostId: string) => boolean = () => false,
  ): Reach {
    const tenant = this.#tenants.get(tenantId)
    if (tenant === undefined) return { kind: 'any' }
    // Hosts that were lost are of the pool all the same.
    const poolHostsMax = Math.max(poolHosts, tenant.struckPoolHosts)
    const hosts = shardHosts(poolHostsMax)
    if (poolHostsMax <= hosts) return { kind: 'any' }
    const nowMs = this.#nowMs()
    if (tenant.strikes > 0 && nowMs - tenant.struckMs > STRIKE_KEPT_MS) forgive(tenant)
    const { strikes, wasTrusted, answers, heldUntilMs, lostHostIds } = tenant
    if (strikes >= hosts) {
      if (nowMs < heldUntilMs) return { kind: 'none', retryAfterMs: heldUntilMs - nowMs }
      if (tenant.unproven.size > 0) return { kind: 'none', retryAfterMs: TRIAL_RETRY_MS }
      return { kind: 'only', hostIds: lostHostIds, isTrial: true }
    }
    // What is on a lost host, or one that drains, has not ended, and nobody can follow it there.
    const canFollow = (id: string): boolean => !this.#losses.has(id) && !isDraining(id)
    const hostIds = new Set([...tenant.unproven.keys()].filter(canFollow))
    const fewer = strikes === 1 && wasTrusted ? 0 : strikes
    const atOnce = hosts - fewer + Math.floor(answers / ANSWERS_PER_HOST)
    if (hostIds.size < atOnce) return { kind: 'any' }
    return { kind: 'only', hostIds, isTrial: false }
  }

  enter(tenantId: string, hostId: string, poolHosts: number): Visit {
    const tenant = this.#tenants.get(tenantId) ?? createTenant()
    putLast(this.#tenants, tenantId, tenant, PLACEMENTS_MAX)
    const { unproven } = tenant
    unproven.set(hostId, (unproven.get(hostId) ?? 0) + 1)
    this.#visits += 1
    const number = this.#visits
    return new Visit({
      prove: () => {
        const left = (unproven.get(hostId) ?? 1) - 1
        if (left === 0) unproven.delete(hostId)
        else unproven.set(hostId, left)
      },
      answered: () => {
        if (number >= tenant.struckVisit) reward(tenant)
      },
      lost: () => this.#strike(tenantId, tenant, { hostId, number, poolHosts }),
    })
  }

  /** A heartbeat of the host: of which of its starts. */
  heard(hostId: string, epoch: number): void {
    putLast(this.#epochs, hostId, epoch, PLACEMENTS_MAX)
    const loss = this.#losses.get(hostId)
    // What was on its way when the host was lost says nothing.
    if (loss === undefined || this.#nowMs() - loss.atMs < LOSS_SEEN_MS) return
    this.#losses.delete(hostId)
    if (loss.epoch !== epoch) return
    for (const tenant of this.#tenants.values()) acquit(tenant, hostId)
  }

  #strike(
    tenantId: string,
    tenant: Tenant,
    loss: { readonly hostId: string; readonly number: number; readonly poolHosts: number },
  ): void {
    const { hostId, number, poolHosts } = loss
    const nowMs = this.#nowMs()
    this.#losses.set(hostId, { epoch: this.#epochs.get(hostId) ?? -1, atMs: nowMs })
    const isKnown = tenant.wasTrusted || tenant.lostHostIds.has(hostId)
    tenant.lostHostIds.add(hostId)
    if (number < tenant.struckVisit && isKnown) return
    tenant.strikes += 1
    tenant.struckMs = nowMs
    tenant.struckPoolHosts = Math.max(poolHosts, tenant.struckPoolHosts)
    tenant.struckVisit = this.#visits + 1
    tenant.wasTrusted = tenant.answers > 0
    tenant.answers = 0
    if (tenant.strikes < shardHosts(poolHosts)) return
    tenant.heldUntilMs = nowMs + tenant.holdMs
    this.#onHeld(tenantId, [...tenant.lostHostIds], tenant.holdMs)
    tenant.holdMs = Math.min(2 * tenant.holdMs, HOLD_MS_MAX)
  }
}

/** Hosts of a pool that a tenant may break before it is held. */
export function shardHosts(poolHosts: number): number {
  const growth = Math.log(poolHosts / SHARD_HOSTS_AT) / Math.log(SHARD_GROWTH)
  return SHARD_HOSTS_MIN + Math.max(0, Math.floor(growth))
}

interface VisitListener {
  readonly prove: () => void
  readonly answered: () => void
  readonly lost: () => void
}

/** One request on one host. */
export class Visit {
  readonly #on: VisitListener
  #chunks = 0
  #isProven = false
  #hasLeft = false
  #onLeave: () => void = () => {}

  constructor(on: VisitListener) {
    this.#on = on
  }

  /** Calls `then` when the request leaves. */
  onLeave(then: () => void): void {
    this.#onLeave = then
  }

  /** The host gave a chunk of the answer. */
  chunk(): void {
    this.#chunks += 1
    if (this.#chunks === PROOF_CHUNKS) this.#prove()
  }

  /** The first ending counts. */
  leave(ending: VisitEnding): void {
    if (this.#hasLeft) return
    this.#hasLeft = true
    this.#onLeave()
    this.#prove()
    if (ending === 'answered') this.#on.answered()
    if (ending === 'lost') this.#on.lost()
  }

  #prove(): void {
    if (this.#isProven) return
    this.#isProven = true
    this.#on.prove()
  }
}

function createTenant(): Tenant {
  return {
    unproven: new Map(),
    lostHostIds: new Set(),
    strikes: 0,
    struckMs: 0,
    struckPoolHosts: 0,
    struckVisit: 0,
    wasTrusted: false,
    answers: 0,
    heldUntilMs: 0,
    holdMs: HOLD_MS,
  }
}

function reward(tenant: Tenant): void {
  tenant.answers += 1
  tenant.strikes = Math.max(0, tenant.strikes - 1)
  if (tenant.strikes === 0) forgive(tenant)
}

/** The host was not broken. */
function acquit(tenant: Tenant, hostId: string): void {
  if (!tenant.lostHostIds.delete(hostId)) return
  tenant.strikes = Math.max(0, tenant.strikes - 1)
  if (tenant.strikes === 0) forgive(tenant)
}

function forgive(tenant: Tenant): void {
  tenant.strikes = 0
  tenant.struckPoolHosts = 0
  tenant.lostHostIds.clear()
  tenant.heldUntilMs = 0
  tenant.holdMs = HOLD_MS
}
