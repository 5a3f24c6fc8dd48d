/**
 * What this edge knows of the pool's hosts: a snapshot from the database, at most POOL_VIEW_TTL_MS
 * old, and the heartbeats that came to this very edge, at once. Of two reports of a host the newer
 * counts. Adds what only this edge knows: requests it has in flight, and calls that failed.
 */
import type { Db } from '#db/database.ts'
import { listHosts } from '#db/queries/hosts.ts'
import type { Heartbeat } from '#protocol'
import { HOST_SEEN_MS_MAX, HOST_SUSPECT_MS, POOL_VIEW_TTL_MS } from '../limits.ts'
import type { AdapterTier, HostState } from './pick-host.ts'

export interface PoolViewOptions {
  readonly db: Db
  readonly nowMs: () => number
}

interface Entry {
  readonly heartbeat: Heartbeat
  readonly seenMs: number
  /** Made on the first question: a heartbeat may name 100,000 adapters. */
  tiers: Map<string, AdapterTier> | null
}

export class PoolView {
  readonly #options: PoolViewOptions
  readonly #entries = new Map<string, Entry>()
  readonly #suspectUntilMs = new Map<string, number>()
  readonly #inFlight = new Map<string, number>()
  #readMs = Number.NEGATIVE_INFINITY
  #readingSinceMs = Number.NEGATIVE_INFINITY

  constructor(options: PoolViewOptions) {
    this.#options = options
  }

  /** Takes a heartbeat that came to this edge; false when a newer start of the host is known. */
  observe(heartbeat: Heartbeat): boolean {
    const isTaken = this.#take(heartbeat, this.#options.nowMs())
    if (isTaken) this.#suspectUntilMs.delete(heartbeat.host_id)
    return isTaken
  }

  /** Forgets a host whose report turned out to be of an older start. */
  forget(hostId: string): void {
    this.#entries.delete(hostId)
  }

  /** A call did not reach the host, or broke off: it is asked last until it is heard of again. */
  suspect(hostId: string): void {
    this.#suspectUntilMs.set(hostId, this.#options.nowMs() + HOST_SUSPECT_MS)
  }

  /** Counts a request of this edge as load of the host until the returned function is called. */
  enter(hostId: string): () => void {
    this.#inFlight.set(hostId, (this.#inFlight.get(hostId) ?? 0) + 1)
    let isIn = true
    return () => {
      if (!isIn) return
      isIn = false
      const left = (this.#inFlight.get(hostId) ?? 1) - 1
      if (left === 0) this.#inFlight.delete(hostId)
      else this.#inFlight.set(hostId, left)
    }
  }

  /** Hosts that take requests. Rejects only when nothing is known and the database fails. */
  async ready(): Promise<HostState[]> {
    await this.#refresh()
    return this.known()
      .filter((heartbeat) => heartbeat.status === 'ready')
      .map((heartbeat) => this.#toState(heartbeat))
  }

  /**
   * The last heartbeat of each host that was heard of within HOST_SEEN_MS_MAX, without a look-up.
   */
  known(): Heartbeat[] {
    const oldestMs = this.#options.nowMs() - HOST_SEEN_MS_MAX
    for (const [hostId, { seenMs }] of this.#entries) {
      if (seenMs < oldestMs) this.#entries.delete(hostId)
    }
    return [...this.#entries.values()].map(({ heartbeat }) => heartbeat)
  }

  /**
   * One request at a time reads, and the others go on with what is known, which is at most a read
   * older. A reader that vanishes (a Worker's client left) is replaced after the same time.
   */
  async #refresh(): Promise<void> {
    const { db, nowMs } = this.#options
    const startMs = nowMs()
    if (startMs - this.#readMs < POOL_VIEW_TTL_MS) return
    const isBeingRead = startMs - this.#readingSinceMs < POOL_VIEW_TTL_MS
    if (isBeingRead && this.#entries.size > 0) return
    this.#readingSinceMs = startMs
    try {
      const rows = await listHosts(db, { seenAfter: new Date(startMs - HOST_SEEN_MS_MAX) })
      // Stored by this same wire type, on the way in.
      for (const row of rows) this.#take(row.heartbeat as Heartbeat, row.seenAt.getTime())
      this.#readMs = startMs
    } catch (error) {
      if (this.known().length === 0) throw error
    }
  }

  #take(heartbeat: Heartbeat, seenMs: number): boolean {
    const known = this.#entries.get(heartbeat.host_id)
    if (known !== undefined) {
      if (heartbeat.epoch < known.heartbeat.epoch) return false
      // The snapshot lags behind what came here directly.
      if (heartbeat.epoch === known.heartbeat.epoch && seenMs < known.seenMs) return true
    }
    this.#entries.set(heartbeat.host_id, { heartbeat, seenMs, tiers: null })
    return true
  }

  #toState(heartbeat: Heartbeat): HostState {
    const { host_id: hostId, load } = heartbeat
    const reported = load.sequences_running + load.queue_depth
    return {
      hostId,
      url: heartbeat.url,
      baseModel: heartbeat.base_model,
      contextLength: heartbeat.context_length,
      // Between two heartbeats this edge's own count is newer.
      sequences: Math.max(reported, this.#inFlight.get(hostId) ?? 0),
      sequencesMax: load.sequences_max,
      isSuspect: (this.#suspectUntilMs.get(hostId) ?? 0) > this.#options.nowMs(),
      tierOf: (digest) => this.#tiersOf(hostId).get(digest) ?? null,
    }
  }

  #tiersOf(hostId: string): ReadonlyMap<string, AdapterTier> {
    const entry = this.#entries.get(hostId)
    if (entry === undefined) return new Map()
    entry.tiers ??= new Map(entry.heartbeat.adapters.map(({ digest, tier }) => [digest, tier]))
    return entry.tiers
  }
}
