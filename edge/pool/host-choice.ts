/**
 * Where a request goes: what is known of the pool's hosts, and of the demand for the adapter, put
 * before `pickHosts`. A request and the prefetch before it ask the same object, and so the same
 * host.
 */
import { type HostState, type HostWish, pickHosts } from './pick-host.ts'
import type { KeepAlive, PoolView } from './pool-view.ts'

export type ChoiceWish = Omit<HostWish, 'demand'>

export class HostChoice {
  readonly #pool: PoolView
  /** Digest → host id → requests of this edge in flight. */
  readonly #inFlight = new Map<string, Map<string, number>>()

  constructor(pool: PoolView) {
    this.#pool = pool
  }

  /** Hosts to ask, best first; empty when none serves the base model. */
  async order(wish: ChoiceWish, keepAlive?: KeepAlive): Promise<HostState[]> {
    const hosts = await this.#pool.ready(keepAlive)
    return pickHosts(hosts, { ...wish, demand: this.#demandOf(hosts, wish.digest) })
  }

  /** Counts a request as load of the host, and of its adapter, until the function is called. */
  enter(host: HostState, { digest }: ChoiceWish): () => void {
    const leave = this.#pool.enter(host.hostId)
    if (digest === null) return leave
    this.#count(digest, host.hostId, 1)
    return () => {
      leave()
      this.#count(digest, host.hostId, -1)
    }
  }

  #demandOf(hosts: readonly HostState[], digest: string | null): number {
    if (digest === null) return 0
    const inFlight = this.#inFlight.get(digest)
    let demand = 0
    for (const { hostId } of hosts) {
      // Between two heartbeats this edge's own count is newer.
      demand += Math.max(this.#pool.sequencesOf(hostId, digest), inFlight?.get(hostId) ?? 0)
    }
    return demand
  }

  #count(digest: string, hostId: string, change: 1 | -1): void {
    const counts = this.#inFlight.get(digest) ?? new Map<string, number>()
    this.#inFlight.set(digest, counts)
    counts.set(hostId, (counts.get(hostId) ?? 0) + change)
    if (counts.get(hostId) === 0) counts.delete(hostId)
    if (counts.size === 0) this.#inFlight.delete(digest)
  }
}
