/**
 * Seeded simulation of a host's choices on virtual time: the real admission queue, start policy,
 * slot table and RAM tier, with times for steps, copies and reads as measured on two cores with the
 * default base model. A closed loop of clients, one tenant per adapter. No engine, no waiting.
 */

import { AdapterDemand } from '../../gpu-host/adapters/adapter-demand.ts'
import type { EvictionPolicy } from '../../gpu-host/adapters/eviction-policy.ts'
import { RamTier } from '../../gpu-host/adapters/ram-tier.ts'
import { SlotTable } from '../../gpu-host/adapters/slot-table.ts'
import type { AdapterImage } from '../../gpu-host/engine.ts'
import { Admission } from '../../gpu-host/scheduler/admission.ts'
import { pickStarts } from '../../gpu-host/scheduler/swap-policy.ts'
import { type Popularity, pickAdapter } from '../../native/test/support/popularity.ts'
import { Random } from '../../native/test/support/random.ts'

export interface SimOptions {
  readonly seed: number
  readonly popularity: Popularity
  readonly adapters: number
  readonly slots: number
  readonly sequences: number
  readonly clients: number
  readonly ramAdapters: number
  readonly requests: number
  readonly policy: EvictionPolicy
  /** Longest wait for a slot before a pinned adapter drains; Infinity = residents always first. */
  readonly slotWaitMaxMs: number
  /** After so many requests the ranks are dealt anew, as fashions change; 0 = never. */
  readonly shuffleEvery: number
}

export interface SimResult {
  readonly tokensPerSecond: number
  readonly ttftMs: readonly number[]
  /** Longest time from when a request could have started, had there been a slot, to its start. */
  readonly blockedMaxMs: number
  readonly loads: number
  readonly reads: number
}

/** Measured, `bench mix` and `bench swap --shape default`: milliseconds. */
const STEP_MS = 10
const ROW_MS = 0.6
const DISTINCT_MS = 0.2
const COPY_MS = 1.2
const READ_MS = 12
/** Share of a copy by which it lengthens the step beside it. */
const COPY_DRAG = 0.5
const TOKENS_MIN = 8
const TOKENS_SPREAD = 56
const CANDIDATES_MAX = 64
const SEQUENCES_USUAL = 16
/** Longest that a request runs, with every sequence taken and a copy beside every step. */
export const RUN_MAX_MS =
  (TOKENS_MIN + TOKENS_SPREAD) *
  (STEP_MS + (ROW_MS + DISTINCT_MS) * SEQUENCES_USUAL + COPY_MS * COPY_DRAG)

interface Request {
  readonly digest: string
  readonly tenantId: string
  readonly weight: number
  readonly costTokens: number
  readonly arrivedMs: number
  readonly endWait: () => void
  tokensLeft: number
  slot: number
  generation: number
  /** When its adapter is in its slot. */
  startsMs: number
  isFirstToken: boolean
  blockedSinceMs: number | null
}

export function simulate(options: SimOptions): SimResult {
  return new Simulation(options).run()
}

class Simulation {
  readonly #options: SimOptions
  readonly #random: Random
  readonly #admission = new Admission<Request>({
    queueDepthMax: Number.MAX_SAFE_INTEGER,
    queueDepthTenantMax: Number.MAX_SAFE_INTEGER,
  })
  readonly #table: SlotTable
  readonly #ram: RamTier
  readonly #running = new Set<Request>()
  readonly #demand: AdapterDemand
  readonly #ttftMs: number[] = []
  #ranks: number[]
  #nowMs = 0
  #reading: { digest: string; untilMs: number } | null = null
  #copierFreeMs = 0
  #dragMs = 0
  #asked = 0
  #tokens = 0
  #loads = 0
  #reads = 0
  #blockedMaxMs = 0

  constructor(options: SimOptions) {
    this.#options = options
    this.#random = new Random('policy', options.seed)
    this.#table = new SlotTable(options.slots)
    this.#ram = new RamTier(options.ramAdapters)
    // Every pack is on disk.
    const tiers = { ram: this.#ram, disk: { has: () => true } }
    this.#demand = new AdapterDemand(options.policy, tiers)
    this.#ranks = Array.from({ length: options.adapters }, (_, i) => i)
  }

  run(): SimResult {
    for (let client = 0; client < this.#options.clients; client++) this.#ask()
    while (this.#admission.depth > 0 || this.#running.size > 0) {
      this.#read()
      this.#start()
      this.#step()
    }
    return {
      tokensPerSecond: (this.#tokens * 1000) / this.#nowMs,
      ttftMs: this.#ttftMs,
      blockedMaxMs: this.#blockedMaxMs,
      loads: this.#loads,
      reads: this.#reads,
    }
  }

  #ask(): void {
    const { requests, adapters, popularity, shuffleEvery } = this.#options
    if (this.#asked >= requests) return
    if (shuffleEvery > 0 && this.#asked % shuffleEvery === 0) this.#shuffle()
    const rank = pickAdapter(popularity, this.#asked, adapters, this.#random) - 1
    this.#asked += 1
    const digest = String(this.#ranks[rank])
    const tokensLeft = TOKENS_MIN + this.#random.integer(TOKENS_SPREAD)
    this.#demand.used(digest)
    this.#admission.push({
      digest,
      tenantId: digest,
      weight: 1,
      costTokens: tokensLeft,
      arrivedMs: this.#nowMs,
      endWait: this.#demand.wait(digest),
      tokensLeft,
      slot: 0,
      generation: 0,
      startsMs: 0,
      isFirstToken: true,
      blockedSinceMs: null,
    })
  }

  #shuffle(): void {
    const ranks = this.#ranks
    for (let i = ranks.length - 1; i > 0; i--) {
      const j = this.#random.integer(i + 1)
      const held = ranks[i] ?? 0
      ranks[i] = ranks[j] ?? 0
      ranks[j] = held
    }
  }

  #isReady(digest: string): boolean {
    return this.#table.isResident(digest) || this.#ram.has(digest)
  }

  /** One pack at a time, in fair order of those who wait. */
  #read(): void {
    if (this.#reading !== null && this.#reading.untilMs <= this.#nowMs) {
      const payload = new Uint8Array(1)
      const manifest = { digest: this.#reading.digest } as AdapterImage['manifest']
      this.#ram.put({ manifest, payload }, (held) =>
        this.#demand.worth(held, this.#demand.fetchMs(held)),
      )
      this.#reading = null
    }
    if (this.#reading !== null) return
    const [next] = this.#admission.fairOrder(({ digest }) => !this.#isReady(digest), 1)
    if (next === undefined) return
    this.#reads += 1
    this.#reading = { digest: next.digest, untilMs: this.#nowMs + READ_MS }
  }

  #start(): void {
    const { slots, sequences, slotWaitMaxMs } = this.#options
    const sequencesFree = sequences - this.#running.size
    if (sequencesFree === 0) return
    const ready = this.#admission.fairOrder(({ digest }) => this.#isReady(digest), CANDIDATES_MAX)
    const { starts, blocked } = pickStarts(
      ready.map((request) => ({
        request,
        digest: request.digest,
        blockedMs: this.#nowMs - (request.blockedSinceMs ?? this.#nowMs),
      })),
      { pinned: this.#pinned(), slotCount: slots, sequencesFree, slotWaitMaxMs },
    )
    for (const request of blocked) request.blockedSinceMs ??= this.#nowMs
    for (const request of starts) this.#begin(request)
  }

  #pinned(): Map<string, number> {
    const pinned = new Map<string, number>()
    for (const { digest, tokensLeft } of this.#running) {
      pinned.set(digest, Math.max(pinned.get(digest) ?? 0, tokensLeft))
    }
    return pinned
  }

  #begin(request: Request): void {
    const { digest } = request
    this.#admission.start(request)
    request.endWait()
    const blockedMs = this.#nowMs - (request.blockedSinceMs ?? this.#nowMs)
    this.#blockedMaxMs = Math.max(this.#blockedMaxMs, blockedMs)
    const pin = this.#table.pin(digest) ?? this.#load(digest)
    request.slot = pin.slot
    request.generation = pin.generation
    request.startsMs = this.#table.isResident(digest) ? this.#nowMs : this.#copierFreeMs
    this.#running.add(request)
  }

  #load(digest: string) {
    const demand = this.#demand
    const slot = this.#table.pickFree((held) => demand.worth(held, demand.refillMs(held)))
    if (slot === null) throw new Error('started without a slot')
    const evicted = this.#table.digestOf(slot)
    if (evicted !== null) {
      demand.evicted(evicted)
      this.#table.startEvicting(slot)
      this.#table.finishEvicting(slot)
    }
    this.#loads += 1
    this.#ram.get(digest)
    this.#copierFreeMs = Math.max(this.#copierFreeMs, this.#nowMs) + COPY_MS
    this.#dragMs += COPY_MS * COPY_DRAG
    return this.#table.startLoading(slot, digest)
  }

  #step(): void {
    const rows = [...this.#running].filter(({ startsMs }) => startsMs <= this.#nowMs)
    if (rows.length === 0) {
      const next = [...this.#running].map(({ startsMs }) => startsMs)
      if (this.#reading !== null) next.push(this.#reading.untilMs)
      this.#nowMs = Math.max(this.#nowMs, Math.min(...next))
      return
    }
    const distinct = new Set(rows.map(({ slot }) => slot)).size
    this.#nowMs += STEP_MS + ROW_MS * rows.length + DISTINCT_MS * distinct + this.#dragMs
    this.#dragMs = 0
    for (const request of rows) this.#advance(request)
  }

  #advance(request: Request): void {
    const { slot, generation } = request
    if (this.#table.stateOf(slot) === 'loading') this.#table.finishLoading(slot)
    this.#tokens += 1
    this.#admission.charge(request, 1)
    request.tokensLeft -= 1
    if (request.isFirstToken) this.#ttftMs.push(this.#nowMs - request.arrivedMs)
    request.isFirstToken = false
    if (request.tokensLeft > 0) return
    this.#table.unpin({ slot, generation })
    this.#running.delete(request)
    this.#admission.end(request)
    this.#ask()
  }
}
