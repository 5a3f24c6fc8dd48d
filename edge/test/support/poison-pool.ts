/**
 * A pool in virtual time whose hosts break when they get a request of one tenant, behind edges that
 * choose by `Placement`. Edges learn of a host's end as edges do: at once by what breaks off there,
 * and after two seconds by its silence.
 */
import { Random } from '../../../native/test/support/random.ts'
import { HOST_ATTEMPTS_MAX } from '../../limits.ts'
import type { HostWish } from '../../pool/pick-host.ts'
import { Placement } from '../../pool/placement.ts'
import type { Visit } from '../../pool/tenant-shards.ts'
import { BASE_MODEL, createDigest, createHostState } from './host-states.ts'

export interface PoisonPoolOptions {
  readonly seed: number
  readonly hosts: number
  readonly edges: number
  readonly tenants: number
  readonly seconds: number
  /** Of all tenants but the poison one, Zipf. */
  readonly requestsPerSecond: number
  readonly poisonPerSecond: number
  /** Adapters of the poison tenant. */
  readonly poisonAdapters: number
  /** The poison tenant is a new one with each request: nothing is learnt of it. */
  readonly isUnknown?: boolean
}

export interface PoisonPoolResult {
  readonly requests: number
  /** Requests of others that no host answered. */
  readonly failed: number
  /** Of others: those that had begun on a host that broke. */
  readonly cut: number
  readonly poisonHeld: number
  readonly kills: number
  /** Most hosts that were down at one moment. */
  readonly downMax: number
  /** Most hosts that had a poison request at one moment. */
  readonly poisonedMax: number
}

interface Host {
  readonly hostId: string
  downUntilMs: number
  epoch: number
  running: Request[]
}

interface Request {
  readonly wish: HostWish
  readonly isPoison: boolean
  readonly edge: Edge
  readonly tried: Set<string>
  visit: Visit | null
  startMs: number
}

interface Edge {
  readonly placement: Placement
  readonly suspectUntilMs: Map<string, number>
}

const TICK_MS = 10
const BEAT_MS = 1000
const CRASH_MS = 30
const FIRST_TOKEN_MS = 60
const DONE_MS = 400
const RESTART_MS = 10_000
const UNSEEN_MS = 2000
const SUSPECT_MS = 3000

export class PoisonPool {
  readonly #options: PoisonPoolOptions
  readonly #random: Random
  readonly #hosts: readonly Host[]
  readonly #edges: readonly Edge[]
  readonly #shares: readonly number[]
  readonly #result = { requests: 0, failed: 0, cut: 0, poisonHeld: 0, kills: 0 }
  #nowMs = 0
  #poisonCount = 0
  #downMax = 0
  #poisonedMax = 0

  constructor(options: PoisonPoolOptions) {
    this.#options = options
    this.#random = new Random('poison', options.seed)
    this.#hosts = Array.from({ length: options.hosts }, (_, i) => {
      return { hostId: `hst_${i}`, downUntilMs: 0, epoch: 1, running: [] }
    })
    this.#edges = Array.from({ length: options.edges }, () => {
      return { placement: new Placement(() => this.#nowMs), suspectUntilMs: new Map() }
    })
    let sum = 0
    this.#shares = Array.from({ length: options.tenants }, (_, i) => {
      sum += 1 / (i + 1)
      return sum
    })
  }

  run(): PoisonPoolResult {
    const { seconds, requestsPerSecond, poisonPerSecond } = this.#options
    for (; this.#nowMs < 1000 * seconds; this.#nowMs += TICK_MS) {
      for (const host of this.#hosts) this.#advance(host)
      if (this.#nowMs % BEAT_MS === 0) this.#beat()
      if (this.#isDue(requestsPerSecond)) this.#arrive(this.#innocent(), false)
      if (this.#isDue(poisonPerSecond)) this.#arrive(this.#poison(), true)
      this.#measure()
    }
    return { ...this.#result, downMax: this.#downMax, poisonedMax: this.#poisonedMax }
  }

  #isDue(perSecond: number): boolean {
    return this.#random.fraction() < (perSecond * TICK_MS) / 1000
  }

  #innocent(): HostWish {
    const draw = this.#random.fraction() * (this.#shares.at(-1) ?? 0)
    const tenant = this.#shares.findIndex((sum) => sum >= draw)
    return toWish(`ten_${tenant}`, tenant)
  }

  #poison(): HostWish {
    const { poisonAdapters, tenants, isUnknown } = this.#options
    this.#poisonCount += 1
    const adapter = tenants + this.#random.integer(poisonAdapters)
    return toWish(isUnknown ? `poison_${this.#poisonCount}` : 'poison', adapter)
  }

  #arrive(wish: HostWish, isPoison: boolean): void {
    const edge = this.#edges[this.#random.integer(this.#edges.length)]
    if (edge === undefined) return
    if (!isPoison) this.#result.requests += 1
    this.#send({ wish, isPoison, edge, tried: new Set(), visit: null, startMs: 0 })
  }

  /** As an edge does: to the best host, and to the best of the others where that one fails. */
  #send(request: Request): void {
    const { wish, edge, tried } = request
    const { placement, suspectUntilMs } = edge
    while (tried.size < HOST_ATTEMPTS_MAX) {
      const choice = placement.order(this.#seenBy(edge), wish, { count: 1, except: tried })
      if (choice.kind === 'held' && request.isPoison) this.#result.poisonHeld += 1
      const [state] = choice.kind === 'hosts' ? choice.hosts : []
      const host = this.#hosts.find(({ hostId }) => hostId === state?.hostId)
      if (state === undefined || host === undefined) break
      tried.add(host.hostId)
      const visit = placement.enter(state, wish)
      if (this.#isUp(host)) {
        request.visit = visit
        request.startMs = this.#nowMs
        host.running.push(request)
        return
      }
      // A connection that is refused.
      visit.leave('other')
      suspectUntilMs.set(host.hostId, this.#nowMs + SUSPECT_MS)
    }
    if (!request.isPoison) this.#result.failed += 1
  }

  #seenBy({ suspectUntilMs }: Edge) {
    return this.#hosts
      .filter((host) => this.#nowMs < host.downUntilMs - RESTART_MS + UNSEEN_MS || this.#isUp(host))
      .map(({ hostId, running }) => {
        return createHostState(hostId, {
          sequences: running.length,
          isSuspect: (suspectUntilMs.get(hostId) ?? 0) > this.#nowMs,
        })
      })
  }

  #advance(host: Host): void {
    const poison = host.running.find(({ isPoison }) => isPoison)
    if (poison !== undefined && this.#nowMs - poison.startMs >= CRASH_MS) this.#kill(host)
    for (const request of host.running.filter(({ startMs }) => this.#nowMs - startMs >= DONE_MS)) {
      request.visit?.leave('answered')
      host.running.splice(host.running.indexOf(request), 1)
    }
  }

  #kill(host: Host): void {
    this.#result.kills += 1
    host.downUntilMs = this.#nowMs + RESTART_MS
    host.epoch += 1
    const lost = host.running
    host.running = []
    for (const { visit, edge } of lost) {
      edge.suspectUntilMs.set(host.hostId, this.#nowMs + SUSPECT_MS)
      visit?.leave('lost')
    }
    for (const request of lost) {
      const hasBegun = this.#nowMs - request.startMs >= FIRST_TOKEN_MS
      if (!hasBegun) this.#send(request)
      else if (!request.isPoison) this.#result.cut += 1
    }
  }

  #beat(): void {
    for (const host of this.#hosts.filter((each) => this.#isUp(each))) {
      for (const { placement } of this.#edges) placement.heard(host.hostId, host.epoch)
    }
  }

  #isUp({ downUntilMs }: Host): boolean {
    return downUntilMs <= this.#nowMs
  }

  #measure(): void {
    const down = this.#hosts.filter((host) => !this.#isUp(host)).length
    const poisoned = this.#hosts.filter(({ running }) => running.some(({ isPoison }) => isPoison))
    this.#downMax = Math.max(this.#downMax, down)
    this.#poisonedMax = Math.max(this.#poisonedMax, poisoned.length)
  }
}

function toWish(tenantId: string, adapter: number): HostWish {
  return { baseModel: BASE_MODEL, digest: createDigest(adapter), tenantId, demand: 1 }
}
