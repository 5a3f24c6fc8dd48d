/**
 * Where a request goes: what is known of the pool's hosts and of the demand for the adapter, put
 * before `Placement`. A request and the hint before it ask the same object, and so the same host.
 */
import { EdgeError } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import { HOSTS_ORDERED_MAX } from '../limits.ts'
import type { Log } from '../log.ts'
import type { EdgeMetrics } from '../metrics.ts'
import type { HostFailure } from './host-failure.ts'
import type { HostState, HostWish } from './pick-host.ts'
import { Placement } from './placement.ts'
import type { PoolView } from './pool-view.ts'
import type { Visit, VisitEnding } from './tenant-shards.ts'

export type ChoiceWish = Omit<HostWish, 'demand'>

export interface HostChoiceOptions {
  readonly pool: Pick<PoolView, 'ready' | 'enter' | 'sequencesOf' | 'isDraining'>
  /** Monotonic. */
  readonly nowMs: () => number
  readonly metrics: EdgeMetrics
  readonly log: Log
}

export interface OrderOptions {
  /** Ids of hosts that the request has been to. */
  readonly asked?: ReadonlySet<string>
  readonly keepAlive?: KeepAlive
}

export class HostChoice {
  readonly #options: HostChoiceOptions
  readonly #placement: Placement
  /** Digest, or tenant where there is none → host id → requests of this edge in flight. */
  readonly #inFlight = new Map<string, Map<string, number>>()

  constructor(options: HostChoiceOptions) {
    this.#options = options
    const { nowMs, metrics, log } = options
    this.#placement = new Placement(nowMs, (tenantId, lostHostIds, forMs) => {
      metrics.tenantHolds.add({})
      const fields = { tenant_id: tenantId, lost_hosts: lostHostIds.join(' '), for_ms: forMs }
      log('error', "hosts were lost under a tenant's requests: it is held", fields)
    })
  }

  /**
   * Hosts to ask, best first; empty when none may be. Throws EdgeError when the tenant is held
   * since hosts failed under its last requests.
   */
  async order(wish: ChoiceWish, options: OrderOptions = {}): Promise<HostState[]> {
    const { pool } = this.#options
    const hosts = await pool.ready(options.keepAlive)
    const isDraining = (hostId: string): boolean => pool.isDraining(hostId)
    const demand = this.#demandOf(hosts, wish)
    const choice = this.#placement.order(
      hosts,
      { ...wish, demand },
      { count: HOSTS_ORDERED_MAX, except: options.asked, isDraining },
    )
    if (choice.kind === 'hosts') return choice.hosts
    const { retryAfterMs } = choice
    throw new EdgeError(
      'no_host_available',
      `Hosts failed under this tenant's last requests. Please retry in ${Math.ceil(retryAfterMs / 1000)} s.`,
      { retryAfterMs },
    )
  }

  /**
   * The host to tell that a request with the adapter is on its way; null where that would not
   * help: the adapter is in memory, or on its way there, or the host has more to do than it can.
   */
  async hint(wish: ChoiceWish & { readonly digest: string }): Promise<HostState | null> {
    const [host] = await this.order(wish)
    if (host === undefined || !this.#placement.isToLoad(host, wish.digest)) return null
    this.#placement.sent(host, wish.digest)
    return host
  }

  /** A request goes to the host, and counts as load of it until it leaves. */
  enter(host: HostState, wish: ChoiceWish): Visit {
    const { hostId } = host
    const visit = this.#placement.enter(host, wish)
    const leave = this.#options.pool.enter(hostId)
    this.#count(keyOf(wish), hostId, 1)
    visit.onLeave(() => {
      leave()
      this.#count(keyOf(wish), hostId, -1)
    })
    return visit
  }

  /** A newer report of a host, wherever it came to: of which of its starts. */
  heard(hostId: string, epoch: number): void {
    this.#placement.heard(hostId, epoch)
  }

  /** Between two heartbeats of a host this edge's own count of its requests there is newer. */
  #demandOf(hosts: readonly HostState[], wish: ChoiceWish): number {
    const { digest } = wish
    const inFlight = this.#inFlight.get(keyOf(wish))
    let demand = 0
    for (const { hostId } of hosts) {
      const reported = digest === null ? 0 : this.#options.pool.sequencesOf(hostId, digest)
      demand += Math.max(reported, inFlight?.get(hostId) ?? 0)
    }
    return demand
  }

  #count(key: string, hostId: string, change: 1 | -1): void {
    const counts = this.#inFlight.get(key) ?? new Map<string, number>()
    this.#inFlight.set(key, counts)
    const count = (counts.get(hostId) ?? 0) + change
    if (count > 0) counts.set(hostId, count)
    else counts.delete(hostId)
    if (counts.size === 0) this.#inFlight.delete(key)
  }
}

/** How a failed attempt left its host. One that took no connection was lost before it. */
export function toEnding({ isHostSuspect, hostCode, error }: HostFailure): VisitEnding {
  if (!isHostSuspect || hostCode === 'host_draining' || isRefusedConnection(error)) return 'other'
  return 'lost'
}

function isRefusedConnection(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  return ('code' in error && error.code === 'ECONNREFUSED') || isRefusedConnection(error.cause)
}

function keyOf({ digest, tenantId }: ChoiceWish): string {
  return digest ?? tenantId
}
