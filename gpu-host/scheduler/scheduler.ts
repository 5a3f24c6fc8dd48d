/**
 * The step loop, and the only file that awaits the engine. Each turn: end what must end, start what
 * can start, plan the rows, run one step, and have what it drew handed over (hand-over.ts).
 *
 * Invariants: a sequence that ended has no rows in a later step and pins nothing, even while its
 * request waits for its consumer; engine sequences are opened and closed between steps alone; no
 * wait for an adapter or a consumer ever holds the loop.
 */

import type { StepResult } from '../engine.ts'
import { HostError } from '../errors.ts'
import { errorText } from '../log.ts'
import type { CancelReceipt, CancelRequest, GenerateRequest } from '../protocol.ts'
import { createPrompt } from '../text/prompt.ts'
import type { SlotLease } from './adapter-port.ts'
import { toEndOrder } from './end-order.ts'
import { NOTHING, type OwnedChunk } from './hand-over.ts'
import { KvMemory } from './kv-memory.ts'
import type { LiveRequest } from './live-request.ts'
import type { LiveRequests } from './live-requests.ts'
import { hearSockets, LoopBell } from './loop-bell.ts'
import type { PageCounts } from './page-pool.ts'
import type { Generation, RequestRunner, SchedulerLoad, WaitingTenant } from './request-runner.ts'
import { findBreach } from './row-guard.ts'
import type { SchedulerOptions } from './scheduler-options.ts'
import { Sequence, toDrawError } from './sequence.ts'
import type { Ending, Settlement } from './settlement.ts'
import { StartLine } from './start-line.ts'
import { type SequenceRows, toStepBatch } from './step-batch.ts'
import { StepObserver } from './step-observer.ts'
import { planStep, prefillBudget, shareStepTime } from './step-plan.ts'

/** How often deadlines are looked at while no step runs. */
const IDLE_TICK_MS = 50

/** Steps rejected in a row after which the engine counts as failing. */
const FAILED_STEPS_MAX = 3

export class Scheduler implements RequestRunner {
  readonly #options: SchedulerOptions
  readonly #line: StartLine<Sequence>
  readonly #observer: StepObserver
  readonly #bell: LoopBell
  readonly #kv: KvMemory
  readonly #requests: LiveRequests<Sequence>
  /** By engine sequence. */
  readonly #held = new Map<number, Sequence>()
  readonly #freeSequences: number[]
  #steps = 0
  #starts = 0
  #failedStepsInRow = 0
  #isClosed = false
  readonly #loop: Promise<void>

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#observer = new StepObserver(options.metrics)
    this.#bell = new LoopBell(options.clock)
    this.#kv = new KvMemory(options.engine, options.metrics, this.#held)
    const count = options.engine.limits.sequenceCount
    this.#line = new StartLine({
      parts: options,
      slotCount: options.engine.limits.slotCount,
      sequenceCount: count,
      running: () => this.#held.values(),
      isShort: () => this.#kv.isShort,
      stepMs: () => this.#observer.cost.stepMs,
      stepsLeft: (sequence) => sequence.stepsLeft(this.#prefillRows),
      promptCost: () => this.#observer.cost.promptCost,
      create: (input) => new Sequence(input),
      onSettled: (settlement) => this.#giveBack(settlement),
      wake: () => this.#bell.ring(),
    })
    this.#requests = this.#line.requests
    this.#freeSequences = Array.from({ length: count }, (_, i) => count - 1 - i)
    this.#loop = this.#run()
  }

  /**
   * Accepts a request into the queue. Throws HostError: `host_draining`, `queue_full` (also where
   * its first token would come too late), `journal_full`, `request_duplicate`, `invalid_request`, `context_length_exceeded`.
   */
  submit(request: GenerateRequest): Generation {
    const { engine, renderChat } = this.#options
    this.#requests.assertMayEnter(request)
    return this.#line.accept(request, createPrompt(engine, renderChat, request))
  }

  cancel(cancel: CancelRequest): CancelReceipt['outcome'] {
    return this.#requests.cancel(cancel)
  }

  load(): SchedulerLoad {
    const { slotCount, pageCells, pageCount } = this.#options.engine.limits
    return {
      ...this.#line.load(),
      slots: slotCount,
      kvTokensMax: pageCount * pageCells,
      kvTokensFree: (pageCount - this.#kv.counts.used) * pageCells,
    }
  }

  waitingTenants(): readonly WaitingTenant[] {
    return this.#line.waitingTenants()
  }

  sequencesByAdapter(): Map<string, number> {
    return this.#requests.sequencesByAdapter()
  }

  get kvPages(): PageCounts {
    return this.#kv.counts
  }

  get isDraining(): boolean {
    return this.#requests.isDraining
  }

  get isFailing(): boolean {
    return this.#failedStepsInRow >= FAILED_STEPS_MAX
  }

  /** A step that failed may be followed by one that works: only trying tells. */
  get isServing(): boolean {
    return !this.isDraining
  }

  startDraining(): void {
    this.#requests.startDraining()
  }

  stopDraining(): void {
    this.#requests.stopDraining()
  }

  idle(): Promise<void> {
    return this.#requests.idle()
  }

  async close(): Promise<void> {
    this.#requests.endAll(new HostError('host_draining', 'the host has shut down'))
    this.#isClosed = true
    this.#bell.ring()
    await this.#loop
  }

  async #run(): Promise<void> {
    while (true) {
      this.#requests.reap()
      if (this.#isClosed) return
      this.#startReady()
      const plan = this.#plan()
      if (plan.length > 0) {
        await this.#step(plan)
        continue
      }
      await this.#rest()
    }
  }

  async #rest(): Promise<void> {
    if (this.#requests.size === 0) return this.#bell.heard(null)
    const startUs = this.#options.clock.nowUs()
    await this.#bell.heard(IDLE_TICK_MS)
    await hearSockets(this.#options.clock, startUs)
  }

  #startReady(): void {
    if (this.#line.queue.depth === 0) return
    // While those that started wait for pages, whoever comes later would only hold a slot.
    const isFull = this.#freeSequences.length === 0 || this.#kv.isShort
    const starts = isFull ? [] : this.#line.start(this.#freeSequences.length)
    for (const sequence of starts) this.#start(sequence)
    if (isFull || this.#freeSequences.length === 0) this.#line.stage()
  }

  #start(sequence: Sequence): void {
    const engineSequence = this.#freeSequences.pop()
    if (engineSequence === undefined) throw new Error('started a sequence without a free position')
    sequence.engineSequence = engineSequence
    sequence.startOrder = this.#starts++
    this.#held.set(engineSequence, sequence)
    const { adapters } = this.#options
    const digest = sequence.request.adapter_digest
    // Whoever needs no load is in the very next step.
    const resident = digest === null ? null : adapters.acquireResident(digest)
    if (digest === null || resident !== null) {
      this.#open(sequence, resident)
      return
    }
    adapters.acquire(digest, sequence.abortStart.signal).then(
      (lease) => this.#open(sequence, lease),
      (error: unknown) => this.#requests.order(sequence.owner, toEndOrder(error)),
    )
  }

  /** The adapter is in its slot. The engine hears of the sequence when no step runs. */
  #open(sequence: Sequence, lease: SlotLease | null): void {
    if (sequence.state === 'ended') {
      if (lease !== null) this.#observer.swapUnused(lease.swapUs)
      lease?.release()
      return
    }
    sequence.lease = lease
    sequence.state = 'prefilling'
    if (lease !== null) this.#observer.swapped(sequence, lease.swapUs)
    this.#bell.ring()
  }

  #plan(): SequenceRows[] {
    const { engine } = this.#options
    const plannable = this.#kv.begin((sequence, error) => {
      this.#requests.order(sequence.owner, toEndOrder(error))
    })
    const yielding = this.#line.queue.beyondShare(engine.limits.sequenceCount)
    const plan = planStep(
      plannable.map(({ engineSequence, isDecoding, rowsDue, lastStep, tenantId }) => ({
        sequence: engineSequence,
        promptRemaining: isDecoding ? 0 : rowsDue,
        lastStep,
        isYielding: yielding.has(tenantId),
      })),
      {
        rowsMax: engine.limits.rowsMax,
        prefillRowsMax: this.#prefillRows,
        parts: this.#observer.cost.parts,
      },
    )
    return this.#guard(this.#kv.fit(plan))
  }

  /** Of the rows those that are what they are taken for; the requests of others end. */
  #guard(rows: readonly SequenceRows[]): SequenceRows[] {
    const { engine, log, metrics } = this.#options
    return rows.filter(({ sequence }) => {
      const cellsOf = this.#kv.scopeOf(sequence)
      const breach = findBreach(sequence, engine.info.baseDigest, cellsOf)
      if (breach === null) return true
      metrics.isolationBreaches.inc()
      const { request_id } = sequence.request
      log('error', 'rows kept out of a step', { request_id, reason: breach })
      const error = new HostError('engine_failed', 'the engine failed', { cause: breach })
      this.#requests.order(sequence.owner, { finish: 'error', error })
      return false
    })
  }

  /** Prompt rows that a step may run. */
  get #prefillRows(): number {
    const { stepTargetUs, prefillRowsMin: min, prefillRowsMax: max } = this.#options.limits
    return prefillBudget(this.#observer.rowUs, stepTargetUs, { min, max })
  }

  async #step(rows: readonly SequenceRows[]): Promise<void> {
    const { clock, engine, log } = this.#options
    this.#steps += 1
    const startUs = clock.nowUs()
    let result: StepResult
    try {
      result = await engine.step(toStepBatch(rows))
      await hearSockets(clock, startUs)
    } catch (error) {
      this.#failedStepsInRow += 1
      this.#observer.failedStep(clock.nowUs() - startUs)
      log('error', 'the engine rejected a step', { reason: errorText(error) })
      this.#failRunning(error)
      return
    }
    this.#failedStepsInRow = 0
    this.#observer.step(rows, result.engineUs, { startUs, endUs: clock.nowUs() })
    this.#apply(rows, result)
  }

  #apply(rows: readonly SequenceRows[], result: StepResult): void {
    const { clock, engine } = this.#options
    const nowUs = clock.nowUs()
    const shares = shareStepTime(
      Math.round(result.engineUs),
      rows.map((planned) => planned.rows),
    )
    for (const [i, { sequence, rows: count }] of rows.entries()) {
      sequence.gpuUs += shares[i] ?? 0
      sequence.lastStep = this.#steps
      const ran = sequence.advance(count)
      // What is run again is nobody's fault: it is not charged twice.
      const drawing = count - ran.prompt - ran.again
      this.#line.queue.charge(sequence, drawing + ran.prompt * this.#observer.cost.promptCost)
      this.#observer.rows(sequence, ran, nowUs)
    }
    const started: LiveRequest<Sequence>[] = []
    const chunks: OwnedChunk<Sequence>[] = []
    const drawn: Sequence[] = []
    const endings = new Map<LiveRequest<Sequence>, Ending<Sequence>>()
    for (const sampled of result.sampled) {
      const sequence = this.#held.get(sampled.sequence)
      // A token drawn after its client left is dropped: neither sent, journalled nor billed.
      if (sequence === undefined || sequence.order !== null) continue
      const { owner } = sequence
      const error = toDrawError(sampled, sequence.digest)
      if (error !== null) {
        endings.set(owner, { owner, finish: 'error', error })
        continue
      }
      if (!owner.hasDrawn) started.push(owner)
      const chunk = sequence.accept(engine, sampled)
      if (chunk !== null) chunks.push({ owner, chunk })
      drawn.push(sequence)
      this.#observer.token(sequence, nowUs)
    }
    for (const { sequence } of rows) {
      // Of a sequence that failed nothing is kept for others.
      if (!endings.has(sequence.owner)) this.#kv.publish(sequence)
    }
    const progressed = new Set(rows.map((row) => row.sequence.owner))
    this.#requests.handOver.commit({ started, progressed, chunks, endings: [...endings.values()] })
    for (const sequence of drawn) {
      if (sequence.finish !== null) this.#release(sequence)
    }
  }

  /** Gives everything back that the sequence held. Idempotent. */
  #release(sequence: Sequence): void {
    if (sequence.state === 'ended') return
    this.#line.end(sequence)
    if (sequence.state !== 'queued') {
      this.#kv.end(sequence)
      this.#held.delete(sequence.engineSequence)
      this.#freeSequences.push(sequence.engineSequence)
      sequence.lease?.release()
    }
    sequence.state = 'ended'
    sequence.abortStart.abort('ended')
  }

  /** Gives everything back that the request held. */
  #giveBack({ ending: { owner, finish, error }, record }: Settlement<Sequence>): void {
    if (record.event === null) this.#observer.owesNothing(owner)
    for (const sequence of owner.sequences) this.#release(sequence)
    this.#options.metrics.requests.inc({ outcome: error?.code ?? finish })
  }

  /** What the KV cache holds after a failed step is not known, so every opened sequence ends. */
  #failRunning(cause: unknown): void {
    const error = new HostError('engine_failed', 'the engine failed', { cause })
    const owners = new Set<LiveRequest<Sequence>>()
    for (const { isOpenInEngine, owner } of this.#held.values()) {
      if (isOpenInEngine) owners.add(owner)
    }
    const endings = Array.from(owners, (owner): Ending<Sequence> => {
      return { owner, ...(owner.order ?? { finish: 'error', error }) }
    })
    this.#requests.handOver.commit({ ...NOTHING, endings })
  }
}
