/**
 * A pool on virtual time: traffic, edges, hosts, heartbeats and faults, one event after the other.
 * Every request ends once: served, cut (its host died after its first token), or refused.
 */
import { HOST_ATTEMPTS_MAX } from '../../edge/limits.ts'
import { Random } from '../../native/test/support/random.ts'
import type { CostModel } from './cost-model.ts'
import { EventHeap } from './event-heap.ts'
import { type PlannedFault, RESTART_MS } from './fault-plan.ts'
import { NamedByte } from './host-tiers.ts'
import { ResidencyIndex } from './residency.ts'
import type { Router } from './routers.ts'
import { type Beat, type HostView, SimEdge } from './sim-edge.ts'
import { SimHost, type SimRequest } from './sim-host.ts'
import type { Traffic } from './traffic.ts'

export interface FleetOptions {
  readonly seed: number
  readonly hosts: number
  readonly edges: number
  readonly adapters: number
  readonly tenants: number
  readonly costs: CostModel
  readonly traffic: Traffic
  readonly router: Router
  readonly faults: readonly PlannedFault[]
  /** Requests before the measured ones, to settle what is where. */
  readonly warmUp: number
}

export const OUTCOMES = { pending: 0, served: 1, cut: 2, refused: 3 } as const

export interface FleetResult {
  /** By request; NaN without a first token. */
  readonly ttftMs: Float64Array
  /** By request: arrival → last token; NaN where it was not served. */
  readonly totalMs: Float64Array
  /** By request; of OUTCOMES. */
  readonly outcomes: Uint8Array
  /** Times that a request ended: 1 each, or the simulation is wrong. */
  readonly ends: Uint8Array
  readonly attempts: number
  /** Of the time from the first measured arrival to the last. */
  readonly measured: {
    readonly fromMs: number
    readonly toMs: number
    readonly loads: number
    readonly diskReads: number
    readonly storeFetches: number
    /** By host. */
    readonly busyMs: Float64Array
  }
  readonly events: number
}

const BEAT_MS = 1000
const REFRESH_MS = 1000
const WAKE = 0
const BEAT = 1
const REFRESH = 2
const FAULT = 3
const RESTART = 4

/** Where a request is. */
interface Place {
  readonly edge: SimEdge
  readonly view: HostView
  readonly leave: (atMs: number) => void
}

interface Totals {
  readonly loads: number
  readonly diskReads: number
  readonly storeFetches: number
  readonly busyMs: Float64Array
}

export function simulateFleet(options: FleetOptions): FleetResult {
  return new FleetSimulation(options).run()
}

class FleetSimulation {
  readonly #options: FleetOptions
  readonly #heap = new EventHeap()
  readonly #random: Random
  readonly #hosts: readonly SimHost[]
  readonly #edges: readonly SimEdge[]
  /** By adapter. */
  readonly #bytes: readonly NamedByte[]
  readonly #tenantIds: readonly string[]
  /** Last of each host. */
  readonly #beats: Beat[] = []
  /** Of the host's wake that counts. */
  readonly #versions: Int32Array
  readonly #wakesMs: Float64Array
  readonly #result: Omit<FleetResult, 'measured' | 'attempts' | 'events'>
  readonly #attemptsOf: Uint8Array
  /** By request, while a host has it. */
  readonly #places = new Map<number, Place>()
  #open = 0
  #attempts = 0

  constructor(options: FleetOptions) {
    const { hosts, edges, adapters, tenants, costs, traffic, seed } = options
    this.#options = options
    this.#random = new Random('fleet', seed)
    const count = traffic.arrivedMs.length
    this.#bytes = Array.from({ length: adapters }, (_, i) => new NamedByte(`adapter-${i}`))
    this.#tenantIds = Array.from({ length: tenants }, (_, i) => `ten_${i}`)
    const events = {
      firstToken: (request: SimRequest, atMs: number) => this.#onFirstToken(request, atMs),
      end: (request: SimRequest, atMs: number) => this.#onServed(request, atMs),
      tooLate: (request: SimRequest, atMs: number) => this.#onTooLate(request, atMs),
    }
    const index = new ResidencyIndex()
    this.#hosts = Array.from({ length: hosts }, (_, i) => new SimHost(i, costs, events, index))
    this.#edges = Array.from(
      { length: edges },
      () => new SimEdge(this.#hosts, costs.host.sequences, []),
    )
    this.#versions = new Int32Array(hosts)
    this.#wakesMs = new Float64Array(hosts).fill(Number.POSITIVE_INFINITY)
    this.#attemptsOf = new Uint8Array(count)
    this.#result = {
      ttftMs: new Float64Array(count).fill(Number.NaN),
      totalMs: new Float64Array(count).fill(Number.NaN),
      outcomes: new Uint8Array(count),
      ends: new Uint8Array(count),
    }
  }

  run(): FleetResult {
    this.#place()
    this.#schedule()
    const { arrivedMs } = this.#options.traffic
    const count = arrivedMs.length
    const { warmUp } = this.#options
    let start: Totals | null = null
    let end: Totals | null = null
    let next = 0
    let events = 0
    const event = { atMs: 0, kind: 0, target: 0, version: 0 }
    while (next < count || this.#open > 0) {
      events += 1
      const arrivalMs = next < count ? (arrivedMs[next] ?? 0) : Number.POSITIVE_INFINITY
      if (arrivalMs <= this.#heap.nextMs) {
        if (next === warmUp) start = this.#totals()
        this.#arrive(next, arrivalMs)
        next += 1
        if (next === count) end = this.#totals()
      } else if (this.#heap.pop(event)) {
        this.#handle(event.kind, event.target, event.version, event.atMs)
      }
    }
    return {
      ...this.#result,
      attempts: this.#attempts,
      events,
      measured: {
        fromMs: arrivedMs[warmUp] ?? 0,
        toMs: arrivedMs[count - 1] ?? 0,
        ...difference(start ?? this.#totals(), end ?? this.#totals()),
      },
    }
  }

  /** Every adapter lies where the policy would have sent its requests in a pool at rest. */
  #place(): void {
    const [edge] = this.#edges
    if (edge === undefined) throw new RangeError('a pool has an edge at least')
    const held: NamedByte[][] = this.#hosts.map(() => [])
    for (let adapter = this.#bytes.length - 1; adapter >= 0; adapter--) {
      const byte = this.#bytes[adapter]
      if (byte === undefined) continue
      const [home] = this.#options.router(edge, this.#toWish(adapter))
      if (home !== undefined) held[edge.viewOf(home.hostId).index]?.push(byte)
    }
    for (const host of this.#hosts) {
      host.tiers.place(held[host.index] ?? [])
      this.#beats[host.index] = this.#toBeat(host, 0)
    }
    for (const each of this.#edges) each.refresh(0, this.#beats)
  }

  #schedule(): void {
    const { faults } = this.#options
    for (const { index } of this.#hosts) {
      this.#heap.push(this.#random.fraction() * BEAT_MS, BEAT, index, 0)
    }
    for (const [i] of this.#edges.entries()) {
      this.#heap.push(this.#random.fraction() * REFRESH_MS, REFRESH, i, 0)
    }
    for (const [i, { atMs }] of faults.entries()) this.#heap.push(atMs, FAULT, i, 0)
  }

  #handle(kind: number, target: number, version: number, atMs: number): void {
    if (kind === REFRESH) {
      this.#edges[target]?.refresh(atMs, this.#beats)
      this.#heap.push(atMs + REFRESH_MS, REFRESH, target, 0)
      return
    }
    if (kind === FAULT) {
      this.#fault(target, atMs)
      return
    }
    const host = this.#hosts[target]
    if (host === undefined) return
    if (kind === WAKE && version === this.#versions[target]) this.#wake(host, atMs)
    if (kind === BEAT) this.#beat(host, atMs)
    if (kind === RESTART) host.isUp = true
  }

  #arrive(index: number, atMs: number): void {
    this.#open += 1
    this.#dispatch(index, atMs)
  }

  /** Asks hosts in the router's order until one accepts. */
  #dispatch(index: number, nowMs: number): void {
    const { traffic, router } = this.#options
    const edge = this.#edges[index % this.#edges.length]
    const adapter = traffic.adapter[index] ?? 0
    if (edge === undefined) return
    edge.nowMs = nowMs
    const wish = this.#toWish(adapter)
    for (const { hostId } of router(edge, wish)) {
      const view = edge.viewOf(hostId)
      if ((this.#attemptsOf[index] ?? 0) >= HOST_ATTEMPTS_MAX) break
      this.#attemptsOf[index] = (this.#attemptsOf[index] ?? 0) + 1
      this.#attempts += 1
      const host = this.#hosts[view.index]
      if (host?.isUp !== true) {
        edge.suspect(view)
        continue
      }
      if (!host.accept(this.#toRequest(index, adapter, nowMs), nowMs)) continue
      this.#places.set(index, { edge, view, leave: edge.enter(view, wish.digest) })
      this.#wake(host, nowMs)
      return
    }
    this.#finish(index, OUTCOMES.refused)
  }

  #toWish(adapter: number) {
    const { tenants } = this.#options
    return {
      digest: this.#bytes[adapter]?.digest ?? '',
      tenantId: this.#tenantIds[adapter % tenants] ?? '',
    }
  }

  #toRequest(index: number, adapter: number, arrivedMs: number): SimRequest {
    const { traffic, tenants } = this.#options
    const byte = this.#bytes[adapter]
    if (byte === undefined) throw new RangeError(`there is no adapter ${adapter}`)
    const promptTokens = traffic.promptTokens[index] ?? 1
    const completionTokens = traffic.completionTokens[index] ?? 1
    return {
      index,
      byte,
      arrivedMs,
      tenantId: this.#tenantIds[adapter % tenants] ?? '',
      weight: 1,
      costTokens: promptTokens + completionTokens,
      promptRemaining: promptTokens,
      tokensLeft: completionTokens,
      hasBegun: false,
      startsMs: 0,
      sequence: -1,
      lastStep: -1,
      pin: null,
      blockedSinceMs: null,
      endWait: () => {},
    }
  }

  #wake(host: SimHost, nowMs: number): void {
    host.wake(nowMs)
    const { index } = host
    if (host.isDraining && host.sequences === 0) {
      this.#stop(host, nowMs, true)
      return
    }
    const { nextMs } = host
    if (nextMs === this.#wakesMs[index] && nextMs > nowMs) return
    this.#wakesMs[index] = nextMs
    const version = (this.#versions[index] ?? 0) + 1
    this.#versions[index] = version
    if (Number.isFinite(nextMs)) this.#heap.push(nextMs, WAKE, index, version)
  }

  #beat(host: SimHost, atMs: number): void {
    this.#heap.push(atMs + BEAT_MS, BEAT, host.index, 0)
    if (!host.isUp) return
    const beat = this.#toBeat(host, atMs)
    this.#beats[host.index] = beat
    this.#edges[host.index % this.#edges.length]?.hear(host.index, beat)
  }

  #toBeat(host: SimHost, atMs: number): Beat {
    const { sequences, waitMs, isDraining } = host
    const active = host.sequencesByAdapter()
    return { number: host.tiers.residency.beat(), atMs, sequences, waitMs, isDraining, active }
  }

  #fault(which: number, atMs: number): void {
    const fault = this.#options.faults[which]
    const host = fault === undefined ? undefined : this.#hosts[fault.host]
    if (fault === undefined || host === undefined) return
    host.isDraining = fault.kind === 'drain'
    if (fault.kind === 'kill') this.#stop(host, atMs, fault.keepsDisk)
    else if (host.sequences === 0) this.#stop(host, atMs, true)
  }

  /** What it had is lost; whoever has got no token yet is asked for anew. */
  #stop(host: SimHost, atMs: number, keepsDisk: boolean): void {
    const lost = host.kill({ keepsDisk })
    this.#versions[host.index] = (this.#versions[host.index] ?? 0) + 1
    this.#wakesMs[host.index] = Number.POSITIVE_INFINITY
    this.#heap.push(atMs + RESTART_MS, RESTART, host.index, 0)
    for (const request of lost) {
      const place = this.#leave(request, atMs)
      if (request.hasBegun) {
        this.#finish(request.index, OUTCOMES.cut)
        continue
      }
      if (place !== undefined) place.edge.suspect(place.view)
      this.#dispatch(request.index, atMs)
    }
  }

  #onFirstToken({ index }: SimRequest, atMs: number): void {
    this.#result.ttftMs[index] = this.#sinceArrival(index, atMs)
  }

  #onServed(request: SimRequest, atMs: number): void {
    this.#leave(request, atMs)
    this.#result.totalMs[request.index] = this.#sinceArrival(request.index, atMs)
    this.#finish(request.index, OUTCOMES.served)
  }

  #onTooLate(request: SimRequest, atMs: number): void {
    this.#leave(request, atMs)
    this.#finish(request.index, OUTCOMES.refused)
  }

  /** From the first attempt on, way there and back included. */
  #sinceArrival(index: number, atMs: number): number {
    const { traffic, costs } = this.#options
    return atMs - (traffic.arrivedMs[index] ?? 0) + costs.pathMs
  }

  #leave({ index }: SimRequest, atMs: number): Place | undefined {
    const place = this.#places.get(index)
    place?.leave(atMs)
    this.#places.delete(index)
    return place
  }

  #finish(index: number, outcome: number): void {
    this.#open -= 1
    this.#result.outcomes[index] = outcome
    this.#result.ends[index] = (this.#result.ends[index] ?? 0) + 1
  }

  #totals(): Totals {
    const sum = (of: (host: SimHost) => number): number =>
      this.#hosts.reduce((total, host) => total + of(host), 0)
    return {
      loads: sum(({ loads }) => loads),
      diskReads: sum(({ diskReads }) => diskReads),
      storeFetches: sum(({ storeFetches }) => storeFetches),
      busyMs: Float64Array.from(this.#hosts, ({ busyMs }) => busyMs),
    }
  }
}

function difference(start: Totals, end: Totals): Totals {
  return {
    loads: end.loads - start.loads,
    diskReads: end.diskReads - start.diskReads,
    storeFetches: end.storeFetches - start.storeFetches,
    busyMs: end.busyMs.map((busyMs, i) => busyMs - (start.busyMs[i] ?? 0)),
  }
}
