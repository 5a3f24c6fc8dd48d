/**
 * What this edge knows of the pool's hosts: a snapshot from the database, read each second and
 * never more than POOL_VIEW_AGE_MS_MAX old, and the heartbeats that came to this very edge, at
 * once. Of two reports of a host the newer counts. Adds what only this edge knows: requests it has
 * in flight, and how hosts fared (`host-health.ts`). While the database is away, hosts that report
 * to other edges stay, to be asked last.
 */
import type { Db } from '#db/database.ts'
import { type HostRow, listHosts } from '#db/queries/hosts.ts'
import { withinTime } from '#db/within-time.ts'
import type { Heartbeat } from '#protocol'
import { databaseUnavailable, errorText } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import {
  HOST_SEEN_MS_MAX,
  LOOKUP_MS_MAX,
  LOOKUP_WAIT_MS,
  POOL_VIEW_AGE_MS_MAX,
  POOL_VIEW_TTL_MS,
  PROBE_PAUSE_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { EdgeMetrics } from '../metrics.ts'
import { OutageWindow, type OutageWindowOptions } from '../outage-window.ts'
import { type HostHealth, withoutEjected } from './host-health.ts'
import { HostLoad } from './host-load.ts'
import type { HostPace } from './host-pace.ts'
import { adaptersOf, type Member, Membership, type Refusal, type Taken } from './membership.ts'
import type { HostState } from './pick-host.ts'
import type { HostProber } from './prober.ts'

/** `nowMs`: the pool's time, since other edges say when they heard of a host. */
export interface PoolViewOptions extends OutageWindowOptions {
  readonly db: Db
  readonly health: HostHealth
  readonly pace: HostPace
  readonly prober: HostProber
  readonly metrics: EdgeMetrics
  readonly log: Log
  /** A newer report of the host: of which of its starts. */
  readonly onHeard?: (hostId: string, epoch: number) => void
  /** Of `prober` and `health`. */
  readonly monotonicMs: () => number
}

/** Requests that wait for another's read look again so often. */
const LOOK_AGAIN_MS = 20

export class PoolView {
  readonly #options: PoolViewOptions
  readonly #members: Membership
  readonly #load: HostLoad
  readonly #outage: OutageWindow
  #readMs = Number.NEGATIVE_INFINITY
  #readingSinceMs = Number.NEGATIVE_INFINITY
  #isReading = false
  /** Refusals of the last snapshot, so that a lasting one is logged once. */
  #refused = new Set<string>()

  constructor(options: PoolViewOptions) {
    this.#options = options
    this.#outage = new OutageWindow(options)
    const { health, pace, onHeard } = options
    this.#load = new HostLoad(options)
    this.#members = new Membership((heartbeat, seenMs) => {
      const { host_id: hostId, epoch, uptime_ms: uptimeMs, status, load } = heartbeat
      const sign = { epoch, uptimeMs, isDraining: status === 'draining' }
      if (health.heard(hostId, sign)) pace.forget(hostId)
      this.#load.heard(hostId, load.sequences_running + load.queue_depth, seenMs)
      onHeard?.(hostId, epoch)
    })
  }

  /** Takes a heartbeat that came to this edge. */
  observe(heartbeat: Heartbeat): Taken {
    const taken = this.#members.take(heartbeat, this.#options.nowMs(), true)
    if (taken === 'url_taken') {
      this.#options.metrics.snapshotRefusals.add({ reason: 'url_taken' })
    }
    return taken
  }

  /** Forgets a host whose report turned out to be of an older start. */
  forget(hostId: string): void {
    this.#members.forget(hostId)
    this.#load.forget(hostId)
  }

  /** The host refused a request since it drains: it gets none until it says otherwise. */
  markDraining(hostId: string): void {
    this.#members.markDraining(hostId)
    this.#options.health.drains(hostId)
  }

  /** As it last said itself. */
  isDraining(hostId: string): boolean {
    return this.#members.get(hostId)?.heartbeat.status === 'draining'
  }

  /**
   * A call that began at `begunMs` (monotonic) did not reach the host, or broke off: it is asked
   * last until it says how it is.
   */
  failed(hostId: string, begunMs: number, keepAlive: KeepAlive): void {
    this.#options.health.failed(hostId, begunMs)
    this.#probeDue(keepAlive)
  }

  /** Counts a request of this edge as load of the host until the returned function is called. */
  enter(hostId: string): () => void {
    return this.#load.enter(hostId)
  }

  /**
   * Hosts that take requests: of each base model's pool those that are not ejected. With
   * `keepAlive` a read that is due goes on beside the request, which goes by what is known.
   * Rejects only when nothing is known and the database fails.
   */
  async ready(keepAlive?: KeepAlive): Promise<HostState[]> {
    const ageMs = this.snapshotAgeMs()
    if (ageMs >= POOL_VIEW_TTL_MS) {
      const isUsable = ageMs < POOL_VIEW_AGE_MS_MAX && this.#members.size > 0
      if (keepAlive === undefined || !isUsable) await this.#fresh()
      else keepAlive(this.#refresh().catch(() => {}))
    }
    if (keepAlive !== undefined) this.#probeDue(keepAlive)
    return this.#trusted()
  }

  /** What is due beside the requests: the next snapshot, questions to doubtful hosts. */
  upkeep(): void {
    if (this.snapshotAgeMs() >= POOL_VIEW_TTL_MS) this.#refresh().catch(() => {})
    this.#probeDue(() => {})
  }

  /** Since the last snapshot was asked for; Infinity before the first. */
  snapshotAgeMs(): number {
    return this.#options.nowMs() - this.#readMs
  }

  /**
   * The last heartbeat of each host that was heard of within HOST_SEEN_MS_MAX, or within that time
   * before an outage of the database; without a look-up.
   */
  known(): Heartbeat[] {
    return this.#knownMembers().map(({ heartbeat }) => heartbeat)
  }

  /** Sequences with an adapter that run or wait on a host, by its last heartbeat. */
  sequencesOf(hostId: string, digest: string): number {
    const member = this.#members.get(hostId)
    return member === undefined ? 0 : (adaptersOf(member).get(digest)?.sequences ?? 0)
  }

  #knownMembers(): Member[] {
    const oldestMs = this.#options.nowMs() - HOST_SEEN_MS_MAX
    for (const { seenMs, heartbeat } of this.#members.all()) {
      if (seenMs >= oldestMs || this.#outage.covers(seenMs, HOST_SEEN_MS_MAX)) continue
      this.forget(heartbeat.host_id)
    }
    return this.#members.all()
  }

  #trusted(): HostState[] {
    const { health } = this.#options
    const pools = Map.groupBy(
      this.#knownMembers().filter(({ heartbeat }) => heartbeat.status === 'ready'),
      ({ heartbeat }) => heartbeat.base_model,
    )
    return [...pools.values()].flatMap((members) =>
      withoutEjected(members, ({ heartbeat }) => health.standing(heartbeat.host_id).isEjected).map(
        (member) => this.#toState(member),
      ),
    )
  }

  /** Reads, or waits while another request does, unless the database is known to be away. */
  async #fresh(): Promise<void> {
    await this.#refresh()
    for (let waitedMs = 0; waitedMs < LOOKUP_WAIT_MS; waitedMs += LOOK_AGAIN_MS) {
      if (!this.#isReading || this.#options.downForMs() !== null) return
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS))
    }
  }

  /**
   * One request at a time reads, and the others go on with what is known. A reader that vanishes (a
   * Worker's client left) is replaced after a while.
   */
  async #refresh(): Promise<void> {
    const { db, nowMs } = this.#options
    const startMs = nowMs()
    const wasReadSince = startMs - this.#readingSinceMs < POOL_VIEW_TTL_MS
    if (wasReadSince && this.#members.size > 0) return
    this.#readingSinceMs = startMs
    this.#isReading = true
    try {
      const reading = listHosts(db, { seenAfter: new Date(startMs - HOST_SEEN_MS_MAX) })
      const waitMs = this.#members.size > 0 ? LOOKUP_WAIT_MS : LOOKUP_MS_MAX
      const rows = await withinTime(reading, waitMs)
      if (rows === null) throw databaseUnavailable()
      this.#merge(rows, startMs)
    } catch (error) {
      this.#outage.failed(startMs)
      if (this.known().length === 0) throw error
    } finally {
      this.#isReading = false
    }
  }

  #merge(rows: readonly HostRow[], startMs: number): void {
    const refusals = this.#members.merge(rows, startMs)
    this.#report(refusals)
    // Not one of this pool: as good as no answer.
    if (refusals.some(({ fault }) => fault === 'too_many')) {
      throw databaseUnavailable(new Error(`the snapshot has ${rows.length} hosts`))
    }
    this.#outage.answered()
    this.#readMs = startMs
    this.#options.prober.keep({ has: (hostId) => this.#members.get(hostId) !== undefined })
  }

  #report(refusals: readonly Refusal[]): void {
    const { metrics, log } = this.#options
    const refused = new Set<string>()
    for (const { hostId, fault } of refusals) {
      metrics.snapshotRefusals.add({ reason: fault })
      const name = `${fault} ${hostId}`
      refused.add(name)
      if (this.#refused.has(name)) continue
      const fields = { reason: fault, host_id: hostId === '' ? null : hostId }
      log('error', 'refused of the snapshot of hosts: the last good one is kept', fields)
    }
    this.#refused = refused
  }

  /** Asks hosts that fell silent, failed a call, or may come back. */
  #probeDue(keepAlive: KeepAlive): void {
    const { health, prober, monotonicMs, log } = this.#options
    for (const member of this.#members.all()) {
      const { host_id: hostId, url, status } = member.heartbeat
      // One that drains gets no requests, and may well have ended.
      if (status === 'draining') continue
      const isSilent =
        this.#isSilent(member) && !prober.isWellSince(hostId, monotonicMs() - PROBE_PAUSE_MS)
      if (prober.isBusyWith(hostId) || !(health.isProbeDue(hostId) || isSilent)) continue
      const asking = prober.probe({ hostId, url }).then(() => {})
      keepAlive(
        asking.catch((error: unknown) => log('error', 'probe', { reason: errorText(error) })),
      )
    }
  }

  #isSilent(member: Member): boolean {
    return this.#members.isSilent(member, this.#options.nowMs())
  }

  #toState(member: Member): HostState {
    const { heartbeat } = member
    const { host_id: hostId, load } = heartbeat
    const { health, pace, prober, monotonicMs } = this.#options
    const standing = health.standing(hostId)
    const isQuiet =
      this.#isSilent(member) && !prober.isWellSince(hostId, monotonicMs() - 2 * PROBE_PAUSE_MS)
    return {
      hostId,
      url: heartbeat.url,
      baseModel: heartbeat.base_model,
      contextLength: heartbeat.context_length,
      sequences: this.#load.sequencesOf(hostId),
      sequencesMax: load.sequences_max,
      waitMs: load.wait_ms,
      weight: standing.share * pace.shareOf(hostId),
      isSuspect: standing.isDoubted || standing.isEjected || isQuiet,
      tierOf: (digest) => adaptersOf(member).get(digest)?.tier ?? null,
    }
  }
}
