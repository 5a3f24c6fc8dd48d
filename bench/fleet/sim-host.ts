/**
 * One simulated host on virtual time: the step loop of gpu-host/scheduler/scheduler.ts with the
 * host's own queue, start policy, step plan and tiers, and with costs in place of the engine. Steps
 * in which every row decodes are run many at a time, since the plan of each is the same; whoever
 * comes meanwhile cuts the run at the next step.
 */
import type { SlotPin } from '../../gpu-host/adapters/slot-table.ts'
import { Admission, type QueuedRequest } from '../../gpu-host/scheduler/admission.ts'
import { planStep } from '../../gpu-host/scheduler/step-plan.ts'
import { pickStarts } from '../../gpu-host/scheduler/swap-policy.ts'
import { forecastSteps } from '../../gpu-host/scheduler/wait-forecast.ts'
import { type CostModel, stepTimeMs } from './cost-model.ts'
import { HostTiers, type NamedByte } from './host-tiers.ts'
import type { ResidencyIndex } from './residency.ts'

/** A request at a host; made anew for each attempt. */
export interface SimRequest extends QueuedRequest {
  /** Of the traffic. */
  readonly index: number
  readonly byte: NamedByte
  readonly arrivedMs: number
  promptRemaining: number
  tokensLeft: number
  hasBegun: boolean
  /** When its adapter is in its slot. */
  startsMs: number
  sequence: number
  lastStep: number
  pin: SlotPin | null
  blockedSinceMs: number | null
  endWait: () => void
}

export interface HostEvents {
  firstToken(request: SimRequest, atMs: number): void
  end(request: SimRequest, atMs: number): void
  /** It waited longer than the host lets requests wait. */
  tooLate(request: SimRequest, atMs: number): void
}

/** Steps of one plan. */
interface Run {
  readonly rows: readonly SimRequest[]
  /** Prompt rows of each; 0 = it decodes. */
  readonly promptRows: readonly number[]
  readonly startMs: number
  readonly stepMs: number
  steps: number
}

/** As in gpu-host/config.ts and scheduler.ts. */
const QUEUE_LIMITS = { queueDepthMax: 256, queueDepthTenantMax: 64 }
const QUEUE_WAIT_MS_MAX = 60_000
const SLOT_WAIT_MS_MAX = 2000
const CANDIDATES_MAX = 64
/**
 * A host hands out a slot that was loaded for a request a moment after it has planned the next
 * step: where others run, the request joins the step after it. An adapter that is in its slot costs
 * no step.
 */
const LEASE_MS = 0.01
const FETCHES_MAX = 4
/** While somebody waits for a slot, the start policy is asked at least so often. */
const BLOCKED_LOOK_MS = 50
const REAP_MS = 1000
/** Whose wait a heartbeat tells. */
const NOBODY = ''
/** Sums of floating-point times that should be equal differ by less. */
const EPSILON_MS = 1e-6

export class SimHost {
  readonly index: number
  readonly tiers: HostTiers
  loads = 0
  diskReads = 0
  storeFetches = 0
  busyMs = 0
  isUp = true
  isDraining = false
  readonly #costs: CostModel
  readonly #events: HostEvents
  readonly #running: SimRequest[] = []
  readonly #freeSequences: number[]
  readonly #fetching = new Map<string, { readonly byte: NamedByte; readonly untilMs: number }>()
  #admission: Admission<SimRequest>
  #run: Run | null = null
  #steps = 0
  #copierFreeMs = 0
  /** Of the last step. */
  #stepMs = 0
  #dragMs = 0
  #reapMs = 0
  #isBlocked = false

  constructor(index: number, costs: CostModel, events: HostEvents, residency: ResidencyIndex) {
    this.index = index
    this.#costs = costs
    this.#events = events
    this.tiers = new HostTiers(costs.host, residency, index)
    this.#admission = new Admission(QUEUE_LIMITS)
    this.#freeSequences = Array.from({ length: costs.host.sequences }, (_, i) => i).reverse()
  }

  get sequences(): number {
    return this.#running.length + this.#admission.depth
  }

  /** Of a newcomer's request, as the host reckons it. */
  get waitMs(): number {
    const steps = forecastSteps({
      running: this.#running.map(stepsLeft),
      ahead: this.#admission.ahead(NOBODY, 1).map(stepsLeft),
      sequenceCount: this.#costs.host.sequences,
      reserved: 0,
    })
    return Math.round(steps * this.#stepMs)
  }

  /** Sequences that run or wait, by the digest of their adapter. */
  sequencesByAdapter(): Map<string, number> {
    const counts = new Map<string, number>()
    const count = ({ byte: { digest } }: SimRequest): void => {
      counts.set(digest, (counts.get(digest) ?? 0) + 1)
    }
    for (const request of this.#running) count(request)
    for (const request of this.#admission.waiting()) count(request)
    return counts
  }

  /** False = refused: the host drains, or its queue is full. */
  accept(request: SimRequest, nowMs: number): boolean {
    if (this.isDraining) return false
    try {
      this.#admission.assertRoom(request.tenantId, 1, 0)
    } catch {
      return false
    }
    this.#admission.push(request)
    request.endWait = this.tiers.wait(request.byte.digest)
    if (this.#freeSequences.length > 0) this.#cutRun(nowMs)
    return true
  }

  /** When it must be looked at again; Infinity = not before something comes. */
  get nextMs(): number {
    let next = this.#run === null ? Number.POSITIVE_INFINITY : endOf(this.#run)
    for (const { untilMs } of this.#fetching.values()) next = Math.min(next, untilMs)
    if (this.#run !== null) return next
    for (const { startsMs } of this.#running) next = Math.min(next, startsMs)
    return next
  }

  /** Does all that is due. */
  wake(nowMs: number): void {
    if (this.#run !== null && endOf(this.#run) <= nowMs + EPSILON_MS) this.#finishRun(this.#run)
    this.#finishFetches(nowMs)
    this.#reap(nowMs)
    this.#startFetches(nowMs)
    if (this.#run !== null) return
    this.#start(nowMs)
    this.#plan(nowMs)
  }

  /** Everything that ran or waited is lost, with slots and RAM; returns it. */
  kill({ keepsDisk }: { keepsDisk: boolean }): SimRequest[] {
    const lost = [...this.#running, ...this.#admission.waiting()]
    for (const { sequence } of this.#running) this.#freeSequences.push(sequence)
    this.#running.length = 0
    this.#fetching.clear()
    this.#admission = new Admission(QUEUE_LIMITS)
    this.#run = null
    this.#copierFreeMs = 0
    this.#dragMs = 0
    this.isUp = false
    this.isDraining = false
    this.tiers.restart({ keepsDisk })
    return lost
  }

  #finishFetches(nowMs: number): void {
    for (const [digest, { byte, untilMs }] of this.#fetching) {
      if (untilMs > nowMs + EPSILON_MS) continue
      this.#fetching.delete(digest)
      this.tiers.putInRam(byte)
      if (this.#freeSequences.length > 0) this.#cutRun(nowMs)
    }
  }

  /** Those that wait longest in fair order first, a few at a time. */
  #startFetches(nowMs: number): void {
    if (this.#admission.depth === 0) return
    const { diskMs, storeMs } = this.#costs.load
    const isWanted = ({ byte: { digest } }: SimRequest): boolean =>
      !this.tiers.isInRam(digest) && !this.#fetching.has(digest)
    while (this.#fetching.size < FETCHES_MAX) {
      const [next] = this.#admission.fairOrder(isWanted, 1)
      if (next === undefined) return
      const { byte } = next
      const isOnDisk = this.tiers.isOnDisk(byte.digest)
      if (isOnDisk) this.diskReads += 1
      else this.storeFetches += 1
      this.#fetching.set(byte.digest, { byte, untilMs: nowMs + (isOnDisk ? diskMs : storeMs) })
    }
  }

  #reap(nowMs: number): void {
    if (this.#admission.depth === 0 || nowMs < this.#reapMs) return
    this.#reapMs = nowMs + REAP_MS
    const late = [...this.#admission.waiting()].filter(
      ({ arrivedMs }) => nowMs - arrivedMs > QUEUE_WAIT_MS_MAX,
    )
    for (const request of late) {
      this.#admission.remove(request)
      request.endWait()
      this.#events.tooLate(request, nowMs)
    }
  }

  #start(nowMs: number): void {
    this.#isBlocked = false
    if (this.#admission.depth === 0 || this.#freeSequences.length === 0) return
    const isReady = ({ byte }: SimRequest): boolean => this.tiers.isInRam(byte.digest)
    const { starts, blocked } = pickStarts(
      this.#admission.fairOrder(isReady, CANDIDATES_MAX).map((request) => ({
        request,
        digest: request.byte.digest,
        blockedMs: nowMs - (request.blockedSinceMs ?? nowMs),
      })),
      {
        pinned: this.#pinned(),
        slotCount: this.#costs.host.slots,
        sequencesFree: this.#freeSequences.length,
        slotWaitMaxMs: SLOT_WAIT_MS_MAX,
      },
      ({ tenantId, weight }, starting) =>
        this.#admission.reservedFrom(tenantId, weight, this.#costs.host.sequences, starting),
    )
    for (const request of blocked) request.blockedSinceMs ??= nowMs
    this.#isBlocked = blocked.length > 0
    for (const request of starts) this.#begin(request, nowMs)
  }

  #pinned(): Map<string, number> {
    const pinned = new Map<string, number>()
    for (const { byte, promptRemaining, tokensLeft } of this.#running) {
      const rows = promptRemaining + tokensLeft
      pinned.set(byte.digest, Math.max(pinned.get(byte.digest) ?? 0, rows))
    }
    return pinned
  }

  #begin(request: SimRequest, nowMs: number): void {
    const { digest } = request.byte
    this.#admission.start(request)
    request.endWait()
    this.tiers.used(digest)
    const held = this.tiers.pin(digest)
    if (held === null) {
      const { copyMs, copyDrag } = this.#costs.load
      this.loads += 1
      this.#copierFreeMs = Math.max(this.#copierFreeMs, nowMs) + copyMs
      this.#dragMs += copyMs * copyDrag
    }
    request.pin = held ?? this.tiers.load(digest)
    const isResident = this.tiers.isResident(digest)
    request.startsMs = isResident ? nowMs : Math.max(this.#copierFreeMs, nowMs + LEASE_MS)
    request.sequence = this.#freeSequences.pop() ?? -1
    this.#running.push(request)
  }

  #plan(nowMs: number): void {
    const rows: SimRequest[] = []
    let isPrefilling = false
    let nextStartMs = Number.POSITIVE_INFINITY
    for (const request of this.#running) {
      if (request.startsMs > nowMs + EPSILON_MS) {
        nextStartMs = Math.min(nextStartMs, request.startsMs)
        continue
      }
      if (request.pin !== null) this.tiers.finishLoading(request.pin)
      rows.push(request)
      if (request.promptRemaining > 0) isPrefilling = true
    }
    if (rows.length === 0) return
    const isOneStep = isPrefilling || rows.length > this.#costs.host.rowsMax
    const run = isOneStep ? this.#planOne(rows, nowMs) : this.#planMany(rows, nowMs)
    const lookMs = this.#isBlocked ? nowMs + BLOCKED_LOOK_MS : nextStartMs
    run.steps = Math.min(run.steps, stepsUntil(run, Math.min(lookMs, nextStartMs)))
    this.#run = run
  }

  #planOne(running: readonly SimRequest[], nowMs: number): Run {
    const bySequence = new Map(running.map((request) => [request.sequence, request]))
    const yielding = this.#admission.beyondShare(this.#costs.host.sequences)
    const plan = planStep(
      running.map(({ sequence, promptRemaining, lastStep, tenantId }) => ({
        ...{ sequence, promptRemaining, lastStep },
        isYielding: yielding.has(tenantId),
      })),
      { ...this.#costs.host, parts: null },
    )
    const rows: SimRequest[] = []
    const promptRows: number[] = []
    for (const planned of plan) {
      const request = bySequence.get(planned.sequence)
      if (request === undefined || planned.rows === 0) continue
      rows.push(request)
      promptRows.push(request.promptRemaining > 0 ? planned.rows : 0)
    }
    return this.#toRun(rows, promptRows, nowMs, 1)
  }

  #planMany(rows: readonly SimRequest[], nowMs: number): Run {
    let steps = Number.POSITIVE_INFINITY
    for (const { tokensLeft } of rows) steps = Math.min(steps, tokensLeft)
    return this.#toRun(rows, new Array<number>(rows.length).fill(0), nowMs, steps)
  }

  #toRun(rows: readonly SimRequest[], promptRows: number[], nowMs: number, steps: number): Run {
    let prompt = 0
    let decode = 0
    const slots = new Set<number>()
    for (const [i, request] of rows.entries()) {
      const count = promptRows[i] ?? 0
      prompt += count
      if (count === 0) decode += 1
      slots.add(request.pin?.slot ?? 0)
    }
    const stepMs = stepTimeMs(this.#costs.step, { decode, prompt, distinct: slots.size })
    const startMs = nowMs + this.#dragMs
    this.#stepMs = stepMs
    this.busyMs += this.#dragMs
    this.#dragMs = 0
    return { rows, promptRows, startMs, stepMs, steps }
  }

  #cutRun(nowMs: number): void {
    const run = this.#run
    if (run === null || run.steps === 1) return
    run.steps = Math.min(run.steps, stepsUntil(run, nowMs))
  }

  #finishRun(run: Run): void {
    this.#run = null
    const endMs = endOf(run)
    this.busyMs += run.steps * run.stepMs
    this.#steps += run.steps
    for (const [i, request] of run.rows.entries()) {
      const promptRows = run.promptRows[i] ?? 0
      request.lastStep = this.#steps
      this.#admission.charge(request, promptRows > 0 ? promptRows : run.steps)
      request.promptRemaining -= promptRows
      if (request.promptRemaining > 0) continue
      // The step that ends a prompt draws the first token.
      request.tokensLeft -= promptRows > 0 ? 1 : run.steps
      if (!request.hasBegun) this.#events.firstToken(request, endMs)
      request.hasBegun = true
      if (request.tokensLeft <= 0) this.#end(request, endMs)
    }
  }

  #end(request: SimRequest, endMs: number): void {
    if (request.pin !== null) this.tiers.unpin(request.pin)
    this.#running.splice(this.#running.indexOf(request), 1)
    this.#freeSequences.push(request.sequence)
    this.#admission.end(request)
    this.#events.end(request, endMs)
  }
}

function endOf({ startMs, stepMs, steps }: Run): number {
  return startMs + stepMs * steps
}

/** Steps until the first boundary at or after `atMs`; at least the one that runs. */
function stepsUntil({ startMs, stepMs }: Run, atMs: number): number {
  return Math.max(1, Math.ceil((atMs - startMs) / stepMs - EPSILON_MS))
}

/** Prompts are read within a step or two. */
function stepsLeft({ promptRemaining, tokensLeft }: SimRequest): number {
  return tokensLeft + (promptRemaining > 0 ? 1 : 0)
}
