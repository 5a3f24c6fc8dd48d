/**
 * What an edge remembers for choosing hosts, beside what hosts report: how many hosts an adapter
 * has had of late, which host is just loading it, and how a tenant's requests fared. It knows no
 * clock and no pool of its own, so that a simulation drives the same code as an edge.
 */
import { COMING_MS, LOAD_CLAIM_SHARE, PLACEMENTS_MAX } from '../limits.ts'
import { TtlCache } from '../ttl-cache.ts'
import {
  businessOf,
  capacityOf,
  type HostState,
  type HostWish,
  type PickOptions,
  pickHosts,
} from './pick-host.ts'
import { ReplicaBook } from './replica-book.ts'
import { type OnHeld, TenantShards, type Visit } from './tenant-shards.ts'

/** What of a wish says where it belongs. */
type HostKey = Omit<HostWish, 'demand'>

/** Hosts to ask, best first, or why there are none. */
export type Choice =
  | { readonly kind: 'hosts'; readonly hosts: HostState[] }
  /** Host after host was lost under the tenant's requests. */
  | { readonly kind: 'held'; readonly retryAfterMs: number }

/** How many are wanted, and the ids of those that the request has been to. */
export interface OrderOptions extends Pick<PickOptions, 'count' | 'except'> {
  /** Of hosts that are not in the list since they drain; absent = none does. */
  readonly isDraining?: (hostId: string) => boolean
}

export class Placement {
  readonly #replicas: ReplicaBook
  readonly #shards: TenantShards
  /** Digest → id of the host that it was last sent to while it was in the memory of none. */
  readonly #coming: TtlCache<string>
  /** Base model → hosts that took requests for it, when it was last asked for. */
  readonly #poolHosts = new Map<string, number>()

  /** `nowMs` monotonic. */
  constructor(nowMs: () => number, onHeld: OnHeld = () => {}) {
    this.#replicas = new ReplicaBook(nowMs)
    this.#shards = new TenantShards(nowMs, onHeld)
    this.#coming = new TtlCache({ ttlMs: COMING_MS, entriesMax: PLACEMENTS_MAX, nowMs })
  }

  order(hosts: readonly HostState[], wish: HostWish, options: OrderOptions): Choice {
    const serving = hosts.filter(({ baseModel }) => baseModel === wish.baseModel)
    this.#poolHosts.set(wish.baseModel, serving.length)
    const reach = this.#shards.reach(wish.tenantId, serving.length, options.isDraining)
    if (reach.kind === 'none') return { kind: 'held', retryAfterMs: reach.retryAfterMs }
    const { digest, demand } = wish
    const key = digest ?? wish.tenantId
    const picking = {
      ...options,
      replicas: this.#replicas.replicas(key, demand, capacityOf(serving)),
      comingTo: digest === null ? null : (this.#coming.get(digest) ?? null),
    }
    if (reach.kind === 'any') return { kind: 'hosts', hosts: pickHosts(serving, wish, picking) }
    const within = pickHosts(serving, wish, { ...picking, only: reach.hostIds })
    const mayLeave = reach.isTrial && within.length === 0
    return { kind: 'hosts', hosts: mayLeave ? pickHosts(serving, wish, picking) : within }
  }

  /** Whether a hint is of use: the adapter is not in its memory yet, and its turn would come. */
  isToLoad(host: HostState, digest: string): boolean {
    if (this.#coming.get(digest) === host.hostId || businessOf(host) > LOAD_CLAIM_SHARE)
      return false
    return !isInMemory(host, digest)
  }

  /** The host was asked to bring the adapter into memory, by a request or a hint before one. */
  sent(host: HostState, digest: string): void {
    if (!isInMemory(host, digest)) this.#coming.set(digest, host.hostId)
  }

  /** A request goes to the host. The visit's `leave` must be called when it is over there. */
  enter(host: HostState, wish: HostKey): Visit {
    if (wish.digest !== null) this.sent(host, wish.digest)
    return this.#shards.enter(wish.tenantId, host.hostId, this.#poolHostsOf(wish))
  }

  /** A heartbeat of the host, wherever it came to. */
  heard(hostId: string, epoch: number): void {
    this.#shards.heard(hostId, epoch)
  }

  #poolHostsOf({ baseModel }: HostKey): number {
    return this.#poolHosts.get(baseModel) ?? 0
  }
}

function isInMemory(host: HostState, digest: string): boolean {
  const tier = host.tierOf(digest)
  return tier === 'slot' || tier === 'ram'
}
