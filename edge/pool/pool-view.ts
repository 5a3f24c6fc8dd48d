/**
 * What this edge knows of the pool's hosts: a snapshot from the database, at most POOL_VIEW_TTL_MS
 * old, and the heartbeats that came to this very edge, at once. Of two reports of a host the newer
 * counts. Adds what only this edge knows: requests it has in flight, and calls that failed. While
 * the database is away, hosts that report to other edges stay, to be asked last.
 */
import type { Db } from '#db/database.ts'
import { listHosts } from '#db/queries/hosts.ts'
import { withinTime } from '#db/within-time.ts'
import type { Heartbeat } from '#protocol'
import { databaseUnavailable } from '../errors.ts'
import {
  HOST_SEEN_MS_MAX,
  HOST_SUSPECT_MS,
  LOOKUP_MS_MAX,
  LOOKUP_WAIT_MS,
  POOL_VIEW_TTL_MS,
} from '../limits.ts'
import { OutageWindow, type OutageWindowOptions } from '../outage-window.ts'
import type { AdapterTier, HostState } from './pick-host.ts'

/** `nowMs`: the pool's time, since other edges say when they heard of a host. */
export interface PoolViewOptions extends OutageWindowOptions {
  readonly db: Db
}

interface AdapterState {
  readonly tier: AdapterTier
  readonly sequences: number
}

interface Entry {
  readonly heartbeat: Heartbeat
  readonly seenMs: number
  /** Made on the first question: a heartbeat may name 100,000 adapters. */
  adapters: Map<string, AdapterState> | null
}

export class PoolView {
  readonly #options: PoolViewOptions
  readonly #entries = new Map<string, Entry>()
  readonly #suspectUntilMs = new Map<string, number>()
  readonly #inFlight = new Map<string, number>()
  readonly #outage: OutageWindow
  #readMs = Number.NEGATIVE_INFINITY
  #readingSinceMs = Number.NEGATIVE_INFINITY

  constructor(options: PoolViewOptions) {
    this.#options = options
    this.#outage = new OutageWindow(options)
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
   * The last heartbeat of each host that was heard of within HOST_SEEN_MS_MAX, or within that time
   * before an outage of the database; without a look-up.
   */
  known(): Heartbeat[] {
    const oldestMs = this.#options.nowMs() - HOST_SEEN_MS_MAX
    for (const [hostId, { seenMs }] of this.#entries) {
      if (seenMs >= oldestMs || this.#outage.covers(seenMs, HOST_SEEN_MS_MAX)) continue
      this.#entries.delete(hostId)
    }
    return [...this.#entries.values()].map(({ heartbeat }) => heartbeat)
  }

  /** Sequences with an adapter that run or wait on a host, by its last heartbeat. */
  sequencesOf(hostId: string, digest: string): number {
    return this.#adaptersOf(hostId).get(digest)?.sequences ?? 0
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
      const reading = listHosts(db, { seenAfter: new Date(startMs - HOST_SEEN_MS_MAX) })
      const waitMs = this.#entries.size > 0 ? LOOKUP_WAIT_MS : LOOKUP_MS_MAX
      const rows = await withinTime(reading, waitMs)
      if (rows === null) throw databaseUnavailable()
      this.#outage.answered()
      // Stored by this same wire type, on the way in.
      for (const row of rows) this.#take(row.heartbeat as Heartbeat, row.seenAt.getTime())
      this.#readMs = startMs
    } catch (error) {
      this.#outage.failed(startMs)
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
    this.#entries.set(heartbeat.host_id, { heartbeat, seenMs, adapters: null })
    return true
  }

  #toState(heartbeat: Heartbeat): HostState {
    const { host_id: hostId, load } = heartbeat
    const nowMs = this.#options.nowMs()
    const seenMs = this.#entries.get(hostId)?.seenMs ?? 0
    const reported = load.sequences_running + load.queue_depth
    return {
      hostId,
      url: heartbeat.url,
      baseModel: heartbeat.base_model,
      contextLength: heartbeat.context_length,
      // Between two heartbeats this edge's own count is newer.
      sequences: Math.max(reported, this.#inFlight.get(hostId) ?? 0),
      sequencesMax: load.sequences_max,
      waitMs: load.wait_ms,
      weight: 1,
      isSuspect:
        (this.#suspectUntilMs.get(hostId) ?? 0) > nowMs || seenMs < nowMs - HOST_SEEN_MS_MAX,
      tierOf: (digest) => this.#adaptersOf(hostId).get(digest)?.tier ?? null,
    }
  }

  #adaptersOf(hostId: string): ReadonlyMap<string, AdapterState> {
    const entry = this.#entries.get(hostId)
    if (entry === undefined) return new Map()
    entry.adapters ??= new Map(entry.heartbeat.adapters.map((each) => [each.digest, each]))
    return entry.adapters
  }
}
