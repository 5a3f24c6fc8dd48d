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
import type { CancelReceipt, CancelRequest, GenerateEvent, GenerateRequest } from '../protocol.ts'
import { createPrompt } from '../text/prompt.ts'
import type { SlotLease } from './adapter-port.ts'
import { AdapterReadiness } from './adapter-readiness.ts'
import { Admission } from './admission.ts'
import { EventBuffer } from './event-buffer.ts'
import { HandOver, type OwnedChunk, type Turn } from './hand-over.ts'
import { KvMemory } from './kv-memory.ts'
import { countByAdapter, type EndOrder, LiveRequest } from './live-request.ts'
import { hearSockets, LoopBell } from './loop-bell.ts'
import type { PageCounts } from './page-pool.ts'
import type { SchedulerOptions } from './scheduler-options.ts'
import { type Sequence, toDrawError, toEndOrder } from './sequence.ts'
import type { Ending, Settlement } from './settlement.ts'
import { type SequenceRows, toStepBatch } from './step-batch.ts'
import { StepObserver } from './step-observer.ts'
import { planStep, prefillBudget, shareStepTime } from './step-plan.ts'
import { pickStarts } from './swap-policy.ts'

/** A running request, as its one consumer sees it. */
export interface Generation {
  readonly promptTokens: number
  /** Events in order; null after the last. Not reading pauses this request alone. */
  next(): Promise<GenerateEvent | null>
  /** The client is gone: ends the request before the next step. Idempotent. */
  cancel(): void
}

export interface SchedulerLoad {
  readonly sequencesRunning: number
  readonly sequencesMax: number
  readonly queueDepth: number
  readonly queueDepthMax: number
  readonly slots: number
  readonly slotsInUse: number
  readonly kvTokensMax: number
  /** Of prefixes that nobody uses now too: they are given up for whoever needs room. */
  readonly kvTokensFree: number
  /** How long a request that came now would wait for its turn. */
  readonly waitMs: number
}

/** How often deadlines are looked at while no step runs. */
const IDLE_TICK_MS = 50
const CANDIDATES_MAX = 64

export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #admission: Admission<Sequence>
  readonly #readiness: AdapterReadiness<Sequence>
  readonly #observer: StepObserver
  readonly #bell: LoopBell
  readonly #kv: KvMemory
  readonly #handOver: HandOver
  /** Accepted and not settled. */
  readonly #live = new Set<LiveRequest>()
  /** By engine sequence. */
  readonly #held = new Map<number, Sequence>()
  readonly #freeSequences: number[]
  #handles = 0
  #steps = 0
  #starts = 0
  #failedStepsInRow = 0
  #isDraining = false
  #isClosed = false
  #onIdle: (() => void)[] = []
  readonly #loop: Promise<void>

  constructor(options: SchedulerOptions) {
    this.#options = options
    this.#observer = new StepObserver(options.metrics)
    this.#bell = new LoopBell(options.clock)
    this.#kv = new KvMemory(options.engine, options.metrics, this.#held)
    this.#admission = new Admission(options.limits)
    this.#readiness = new AdapterReadiness(options.adapters, this.#admission, {
      onReady: () => this.#bell.ring(),
      onFailed: (digest, error) => this.#failQueued(digest, error),
    })
    this.#handOver = new HandOver({
      journal: options.journal,
      clock: options.clock,
      hostId: options.hostId,
      onSettled: (settlement) => this.#forget(settlement),
      order: (owner, order) => this.#order(owner, order),
    })
    const count = options.engine.limits.sequenceCount
    this.#freeSequences = Array.from({ length: count }, (_, i) => count - 1 - i)
    this.#loop = this.#run()
  }

  /**
   * Accepts a request into the queue. Throws HostError: `host_draining`, `queue_full`,
   * `journal_full`, `request_duplicate`, `invalid_request`, `context_length_exceeded`.
   */
  submit(request: GenerateRequest): Generation {
    const { engine, journal, clock, limits, adapters } = this.#options
    if (this.#isDraining) throw new HostError('host_draining', 'the host is shutting down')
    this.#handOver.attempts.assertNewer(request)
    this.#admission.assertRoom(request.tenant_id, engine.limits.sequenceCount, request.n)
    journal.assertRoom()
    const prompt = createPrompt(engine, this.#options.renderChat, request)
    const digest = request.adapter_digest
    const owner = new LiveRequest({
      handle: this.#handles,
      request,
      prompt,
      createBuffer: (self) =>
        new EventBuffer({
          eventsMax: limits.eventsBufferedMax * request.n,
          onRoom: () => this.#bell.ring(),
          record: (chunk) => this.#handOver.record(self, chunk),
        }),
      acceptedUs: clock.nowUs(),
      startedAt: new Date(clock.nowMs()).toISOString(),
      source: digest === null ? 'none' : adapters.locate(digest),
      seed: request.sampling.seed ?? this.#options.randomSeed(),
      joinQueue: () => (digest === null ? () => {} : this.#readiness.join(digest)),
    })
    const older = this.#findLive(request.request_id)
    try {
      this.#handOver.open(owner)
    } catch (error) {
      for (const sequence of owner.sequences) sequence.leaveQueue()
      throw error
    }
    this.#handles += 1
    this.#live.add(owner)
    // Whoever sends a newer attempt does not wait for this one any more.
    if (older !== undefined) this.#order(older, CLIENT_LEFT)
    for (const sequence of owner.sequences) this.#admission.push(sequence)
    owner.buffer.push({
      type: 'accepted',
      request_id: request.request_id,
      host_id: this.#options.hostId,
      prompt_tokens: prompt.tokens.length,
    })
    this.#readiness.fetch()
    this.#bell.ring()
    return {
      promptTokens: prompt.tokens.length,
      next: () => owner.buffer.next(),
      cancel: () => this.#order(owner, CLIENT_LEFT),
    }
  }

  /**
   * The client has left, and got no more than `delivered_tokens`: ends the attempt, or corrects it
   * where it is settled already.
   */
  cancel(cancel: CancelRequest): CancelReceipt['outcome'] {
    const owner = this.#findLive(cancel.request_id)
    if (owner !== undefined && owner.request.attempt === cancel.attempt) {
      owner.deliveredTokensMax = Math.min(owner.deliveredTokensMax, cancel.delivered_tokens)
      this.#order(owner, CLIENT_LEFT)
      return 'ending'
    }
    if (this.#handOver.correct(cancel)) return 'corrected'
    // The call may have overtaken the attempt that it ends.
    this.#handOver.attempts.enter(cancel)
    return 'settled'
  }

  load(): SchedulerLoad {
    const { engine, limits } = this.#options
    const { sequenceCount, pageCells, pageCount } = engine.limits
    const { depth } = this.#admission
    return {
      sequencesRunning: this.#held.size,
      sequencesMax: sequenceCount,
      queueDepth: depth,
      queueDepthMax: limits.queueDepthMax,
      slots: engine.limits.slotCount,
      slotsInUse: this.#pinned().size,
      kvTokensMax: pageCount * pageCells,
      kvTokensFree: (pageCount - this.#kv.counts.used) * pageCells,
      waitMs: this.#admission.waitMs(depth, sequenceCount),
    }
  }

  /** Sequences that run or wait, by the digest of their adapter. */
  sequencesByAdapter(): Map<string, number> {
    return countByAdapter(this.#live)
  }

  /** Pages of the KV pool. */
  get kvPages(): PageCounts {
    return this.#kv.counts
  }

  get isDraining(): boolean {
    return this.#isDraining
  }

  /** Steps that the engine rejected since the last that worked. */
  get failedStepsInRow(): number {
    return this.#failedStepsInRow
  }

  /** Refuses new requests from now on; running ones go on. */
  startDraining(): void {
    this.#isDraining = true
  }

  /** Resolves when no request is queued or running. */
  async idle(): Promise<void> {
    if (this.#live.size === 0) return
    await new Promise<void>((resolve) => this.#onIdle.push(resolve))
  }

  /** Ends what still runs with `host_draining`, and the loop. The engine may be closed after it. */
  async close(): Promise<void> {
    this.#isDraining = true
    const error = new HostError('host_draining', 'the host has shut down')
    for (const owner of this.#live) this.#order(owner, { finish: 'error', error })
    this.#isClosed = true
    this.#bell.ring()
    await this.#loop
  }

  async #run(): Promise<void> {
    while (true) {
      this.#reap()
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
    if (this.#live.size === 0) return this.#bell.heard(null)
    const startUs = this.#options.clock.nowUs()
    await this.#bell.heard(IDLE_TICK_MS)
    await hearSockets(this.#options.clock, startUs)
  }

  /** Ends sequences that were ordered to, that waited too long, or whose consumer does not read. */
  #reap(): void {
    const { clock, limits } = this.#options
    const nowUs = clock.nowUs()
    for (const { owner, timing } of this.#admission.waiting()) {
      // The choices of a request that has begun wait for their turn as long as it takes.
      if (owner.hasStarted || nowUs - timing.acceptedUs <= limits.queueWaitMaxMs * 1000) continue
      const error = new HostError('deadline_exceeded', 'waited too long for a place on the host')
      owner.orderEnd({ finish: 'error', error })
    }
    const endings: Ending[] = []
    for (const owner of this.#live) {
      owner.stalledSinceUs = owner.isHeldUp ? (owner.stalledSinceUs ?? nowUs) : null
      const stalledUs = nowUs - (owner.stalledSinceUs ?? nowUs)
      if (stalledUs > limits.consumerStallMaxMs * 1000) {
        const error = new HostError('request_aborted', 'the client stopped reading')
        owner.orderEnd({ finish: 'abort', error })
      }
      if (owner.order !== null) endings.push({ owner, ...owner.order })
    }
    if (endings.length > 0) this.#handOver.commit({ ...NOTHING, endings })
  }

  #startReady(): void {
    if (this.#admission.depth === 0) return
    // While those that started wait for pages, whoever comes later would only hold a slot.
    const isFull = this.#freeSequences.length === 0 || this.#kv.isShort
    if (!isFull) this.#startFair()
    if (isFull || this.#freeSequences.length === 0) this.#readiness.stage()
  }

  #startFair(): void {
    const { clock, engine, limits } = this.#options
    const nowUs = clock.nowUs()
    const { starts, blocked } = pickStarts(
      this.#readiness.ready(CANDIDATES_MAX).map((sequence) => ({
        request: sequence,
        digest: sequence.digest,
        blockedMs: (nowUs - (sequence.blockedSinceUs ?? nowUs)) / 1000,
      })),
      {
        pinned: this.#pinned(),
        slotCount: engine.limits.slotCount,
        sequencesFree: this.#freeSequences.length,
        slotWaitMaxMs: limits.slotWaitMaxMs,
      },
    )
    for (const sequence of blocked) sequence.blockedSinceUs ??= nowUs
    for (const sequence of starts) this.#start(sequence)
  }

  #start(sequence: Sequence): void {
    const engineSequence = this.#freeSequences.pop()
    if (engineSequence === undefined) throw new Error('started a sequence without a free position')
    this.#admission.start(sequence)
    sequence.leaveQueue()
    sequence.state = 'starting'
    sequence.engineSequence = engineSequence
    sequence.startOrder = this.#starts++
    this.#held.set(engineSequence, sequence)
    const digest = sequence.request.adapter_digest
    if (digest === null) {
      this.#open(sequence, null)
      return
    }
    this.#options.adapters.acquire(digest, sequence.abortStart.signal).then(
      (lease) => this.#open(sequence, lease),
      (error: unknown) => this.#order(sequence.owner, toEndOrder(error)),
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
    if (lease !== null && lease.swapUs > 0) {
      this.#options.metrics.swapSeconds.observe(
        { source: sequence.owner.source },
        lease.swapUs / 1e6,
      )
    }
    this.#bell.ring()
  }

  #plan(): SequenceRows[] {
    const { engine, limits } = this.#options
    const plannable = this.#kv.begin((sequence, error) => {
      this.#order(sequence.owner, toEndOrder(error))
    })
    const plan = planStep(
      plannable.map(({ engineSequence, isDecoding, rowsDue, lastStep }) => ({
        sequence: engineSequence,
        promptRemaining: isDecoding ? 0 : rowsDue,
        lastStep,
      })),
      {
        rowsMax: engine.limits.rowsMax,
        prefillRowsMax: prefillBudget(this.#observer.rowUs, limits.stepTargetUs, {
          min: limits.prefillRowsMin,
          max: limits.prefillRowsMax,
        }),
      },
    )
    return this.#kv.fit(plan)
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
    this.#observer.step(rows, result.engineUs)
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
      this.#admission.charge(sequence.tenantId, count)
      this.#observer.rows(sequence, sequence.advance(count), nowUs)
    }
    const started: LiveRequest[] = []
    const chunks: OwnedChunk[] = []
    const drawn: Sequence[] = []
    const endings = new Map<LiveRequest, Ending>()
    for (const sampled of result.sampled) {
      const sequence = this.#held.get(sampled.sequence)
      // A token drawn after its client left is dropped: neither sent, journalled nor billed.
      if (sequence === undefined || sequence.order !== null) continue
      const { owner } = sequence
      const error = toDrawError(sampled)
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
    this.#handOver.commit({ started, progressed, chunks, endings: [...endings.values()] })
    for (const sequence of drawn) {
      if (sequence.finish !== null) this.#release(sequence)
    }
  }

  /** Gives everything back that the sequence held. Idempotent. */
  #release(sequence: Sequence): void {
    if (sequence.state === 'ended') return
    if (sequence.state === 'queued') {
      this.#admission.remove(sequence)
      sequence.leaveQueue()
    } else {
      this.#kv.end(sequence)
      this.#held.delete(sequence.engineSequence)
      this.#freeSequences.push(sequence.engineSequence)
      sequence.lease?.release()
      const nowUs = this.#options.clock.nowUs()
      this.#admission.end(sequence, (nowUs - sequence.timing.acceptedUs) / 1000)
    }
    sequence.state = 'ended'
    sequence.abortStart.abort('ended')
  }

  /** Gives everything back that the request held. */
  #forget({ ending: { owner, finish, error }, record }: Settlement): void {
    if (record.event === null) this.#observer.owesNothing(owner)
    for (const sequence of owner.sequences) this.#release(sequence)
    this.#live.delete(owner)
    this.#options.metrics.requests.inc({ outcome: error?.code ?? finish })
    if (this.#live.size > 0) return
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  /** What the KV cache holds after a failed step is not known, so every opened sequence ends. */
  #failRunning(cause: unknown): void {
    const error = new HostError('engine_failed', 'the engine failed', { cause })
    const owners = new Set<LiveRequest>()
    for (const { isOpenInEngine, owner } of this.#held.values()) {
      if (isOpenInEngine) owners.add(owner)
    }
    const endings = Array.from(owners, (owner): Ending => {
      return { owner, ...(owner.order ?? { finish: 'error', error }) }
    })
    this.#handOver.commit({ ...NOTHING, endings })
  }

  #failQueued(digest: string, cause: unknown): void {
    for (const sequence of this.#admission.waiting()) {
      if (sequence.request.adapter_digest === digest) sequence.owner.orderEnd(toEndOrder(cause))
    }
    this.#bell.ring()
  }

  /** The newest attempt at the request that is not settled. */
  #findLive(requestId: string): LiveRequest | undefined {
    if (!this.#handOver.attempts.hasSeen(requestId)) return undefined
    return [...this.#live].findLast(({ request }) => request.request_id === requestId)
  }

  #order(owner: LiveRequest, order: EndOrder): void {
    owner.orderEnd(order)
    this.#bell.ring()
  }

  /** Adapters that running and starting requests pin, with the most rows that one has left. */
  #pinned(): Map<string, number> {
    const pinned = new Map<string, number>()
    for (const { digest, rowsLeftMax } of this.#held.values()) {
      if (digest !== null) pinned.set(digest, Math.max(pinned.get(digest) ?? 0, rowsLeftMax))
    }
    return pinned
  }
}

const NOTHING: Turn = { started: [], progressed: new Set(), chunks: [], endings: [] }
const CLIENT_LEFT: EndOrder = { finish: 'abort', error: null }
