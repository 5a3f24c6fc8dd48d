/**
 * What a simulated edge knows of the pool: the heartbeats that came to it, at once; those that went
 * to other edges by way of the database, up to a second later; its own requests in flight; and
 * calls that failed a moment ago. As edge/pool/pool-view.ts, without a database and a network.
 */
import { HOST_SEEN_MS_MAX } from '../../edge/limits.ts'
import { HostLoad } from '../../edge/pool/host-load.ts'
import type { AdapterTier, HostState } from '../../edge/pool/pick-host.ts'
import type { Residency } from './residency.ts'
import type { SimHost } from './sim-host.ts'

/** A host that failed a call is asked last for this long. */
const HOST_SUSPECT_MS = 3000

/** What a heartbeat says. */
export interface Beat {
  /** Of this host; 0 = before the first. */
  readonly number: number
  readonly atMs: number
  readonly sequences: number
  readonly waitMs: number
  readonly isDraining: boolean
  /** Sequences that run or wait, by the digest of their adapter. */
  readonly active: ReadonlyMap<string, number>
}

export const BASE_MODEL = 'base'
const CONTEXT_LENGTH = 2048
const NOBODY: ReadonlyMap<string, number> = new Map()

export class HostView implements HostState {
  readonly index: number
  readonly hostId: string
  readonly url = ''
  readonly baseModel = BASE_MODEL
  readonly contextLength = CONTEXT_LENGTH
  readonly sequencesMax: number
  weight = 1
  beat: Beat
  suspectUntilMs = Number.NEGATIVE_INFINITY
  /** Requests of this edge in flight there, by adapter. */
  readonly ownActive = new Map<string, number>()
  readonly #residency: Residency
  readonly #edge: SimEdge

  constructor(host: SimHost, sequencesMax: number, beat: Beat, edge: SimEdge) {
    this.index = host.index
    this.hostId = `hst_${host.index}`
    this.sequencesMax = sequencesMax
    this.beat = beat
    this.#residency = host.tiers.residency
    this.#edge = edge
  }

  get sequences(): number {
    return this.#edge.load.sequencesOf(this.hostId)
  }

  /** Without a reckoning: reported, or the edge's own, whichever are more. */
  get plainSequences(): number {
    return Math.max(this.beat.sequences, this.#edge.load.ownOf(this.hostId))
  }

  get waitMs(): number {
    return this.beat.waitMs
  }

  get isSuspect(): boolean {
    return this.suspectUntilMs > this.#edge.nowMs
  }

  tierOf(digest: string): AdapterTier | null {
    return this.#residency.tierAt(digest, this.beat.number)
  }

  /** Whether a request with the adapter runs or waits there, as far as the edge knows. */
  isActive(digest: string): boolean {
    return this.beat.active.has(digest) || this.ownActive.has(digest)
  }

  /** Adapters that run or wait there. */
  get activeCount(): number {
    return Math.max(this.beat.active.size, this.ownActive.size)
  }
}

export class SimEdge {
  readonly views: readonly HostView[]
  nowMs = 0
  readonly load = new HostLoad({ nowMs: () => this.nowMs })
  readonly #byId: ReadonlyMap<string, HostView>
  /** Hosts that take requests, as far as it knows. */
  serving: readonly HostView[]
  /** Digest → hosts where own requests with the adapter are. */
  readonly #inFlight = new Map<string, Set<HostView>>()
  /** Sequences by the digest of their adapter, of all heartbeats together. */
  readonly #reported = new Map<string, number>()

  constructor(hosts: readonly SimHost[], sequencesMax: number, beats: readonly Beat[]) {
    const first = { number: 0, atMs: 0, sequences: 0, waitMs: 0, isDraining: false, active: NOBODY }
    this.views = hosts.map((host, i) => new HostView(host, sequencesMax, beats[i] ?? first, this))
    this.#byId = new Map(this.views.map((view) => [view.hostId, view]))
    this.serving = this.views
  }

  /** Throws for a host that is not of this pool. */
  viewOf(hostId: string): HostView {
    const view = this.#byId.get(hostId)
    if (view === undefined) throw new RangeError(`there is no host ${hostId}`)
    return view
  }

  /** Takes a heartbeat that came to this edge. */
  hear(host: number, beat: Beat): void {
    const view = this.views[host]
    if (view === undefined) return
    this.nowMs = beat.atMs
    this.#take(view, beat)
    view.suspectUntilMs = Number.NEGATIVE_INFINITY
  }

  /** Reads what all hosts last reported, to whichever edge. */
  refresh(nowMs: number, beats: readonly Beat[]): void {
    this.nowMs = nowMs
    this.serving = this.views.filter((view) => {
      const beat = beats[view.index] ?? view.beat
      const isServing = !beat.isDraining && nowMs - beat.atMs <= HOST_SEEN_MS_MAX
      this.#take(view, isServing ? beat : { ...beat, active: NOBODY })
      return isServing
    })
  }

  suspect(view: HostView): void {
    view.suspectUntilMs = this.nowMs + HOST_SUSPECT_MS
  }

  /** A request goes to the host. The returned function must be called when it is over there. */
  enter(view: HostView, digest: string): (atMs: number) => void {
    const leave = this.load.enter(view.hostId)
    add(view.ownActive, digest, 1)
    const views = this.#inFlight.get(digest) ?? new Set()
    this.#inFlight.set(digest, views.add(view))
    return (atMs) => {
      this.nowMs = atMs
      leave()
      this.#leave(view, digest)
    }
  }

  /** Sequences with the adapter in the pool: on each host as reported, or as many as are own. */
  demandOf(digest: string): number {
    let demand = this.#reported.get(digest) ?? 0
    for (const { beat, ownActive } of this.#inFlight.get(digest) ?? []) {
      const more = (ownActive.get(digest) ?? 0) - (beat.active.get(digest) ?? 0)
      demand += Math.max(0, more)
    }
    return demand
  }

  #leave(view: HostView, digest: string): void {
    add(view.ownActive, digest, -1)
    if (view.ownActive.has(digest)) return
    const views = this.#inFlight.get(digest)
    views?.delete(view)
    if (views?.size === 0) this.#inFlight.delete(digest)
  }

  #take(view: HostView, beat: Beat): void {
    if (view.beat === beat) return
    if (view.beat.number !== beat.number) {
      this.load.heard(view.hostId, beat.sequences, beat.atMs)
    }
    for (const [digest, count] of view.beat.active) add(this.#reported, digest, -count)
    for (const [digest, count] of beat.active) add(this.#reported, digest, count)
    view.beat = beat
  }
}

function add(counts: Map<string, number>, digest: string, change: number): void {
  const count = (counts.get(digest) ?? 0) + change
  if (count === 0) counts.delete(digest)
  else counts.set(digest, count)
}
