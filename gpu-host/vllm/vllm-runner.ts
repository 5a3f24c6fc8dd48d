/**
 * Runs requests on a vLLM server: one completion for each choice, started in the queue's fair order
 * as places and adapters become free. Tokens that arrived since the last turn of the loop go to the
 * journal and to their consumers together (scheduler/hand-over.ts), as those of a step do; a stream
 * is read on when its last tokens were taken, so a consumer that is behind holds up its own alone.
 *
 * A server that has lost an adapter is given it again, and a server that is away is told as such,
 * before the first token; after it the request ends with an error, billed for what it got.
 */

import { HostError } from '../errors.ts'
import type { CancelReceipt, CancelRequest, GenerateRequest } from '../protocol.ts'
import type { SlotLease } from '../scheduler/adapter-port.ts'
import { toEndOrder } from '../scheduler/end-order.ts'
import type { OwnedChunk } from '../scheduler/hand-over.ts'
import { kvSalt } from '../scheduler/kv-identity.ts'
import type { LiveRequest } from '../scheduler/live-request.ts'
import type { LiveRequests } from '../scheduler/live-requests.ts'
import { hearSockets, LoopBell } from '../scheduler/loop-bell.ts'
import type { PageCounts } from '../scheduler/page-pool.ts'
import type {
  Generation,
  RequestRunner,
  SchedulerLoad,
  WaitingTenant,
} from '../scheduler/request-runner.ts'
import { findSlotBreach, toOwner } from '../scheduler/row-guard.ts'
import type { RunnerParts } from '../scheduler/scheduler-options.ts'
import type { Settlement } from '../scheduler/settlement.ts'
import { StartLine } from '../scheduler/start-line.ts'
import { StepObserver } from '../scheduler/step-observer.ts'
import { BusyTime } from './busy-time.ts'
import { toCompletionBody } from './completion-request.ts'
import type { CompletionDelta } from './completion-stream.ts'
import type { VllmClient } from './vllm-client.ts'
import { serverFailed, VllmError } from './vllm-errors.ts'
import type { VllmLoras } from './vllm-loras.ts'
import { createVllmPrompt } from './vllm-prompt.ts'
import { VllmSequence } from './vllm-sequence.ts'
import { VllmTools } from './vllm-tools.ts'
import type { VllmWatch } from './vllm-watch.ts'

export interface VllmRunnerOptions extends RunnerParts {
  readonly client: VllmClient
  readonly loras: VllmLoras
  readonly watch: VllmWatch
  /** What the server calls the base. */
  readonly model: string
  readonly vocabularySize: number
  readonly contextLength: number
  /** Completions asked for at once at most. */
  readonly sequenceCount: number
  /** Adapters that run at once at most. */
  readonly slotCount: number
  /** Adapters that the server holds at most. */
  readonly placeCount: number
}

interface Arrival {
  readonly sequence: VllmSequence
  readonly delta: CompletionDelta
}

const IDLE_TICK_MS = 50
/** Times that an adapter is given to the server anew for one sequence. */
const RELOADS_MAX = 2
const NO_PAGES: PageCounts = { used: 0, cached: 0, free: 0 }

export class VllmRunner implements RequestRunner {
  readonly kvPages = NO_PAGES
  readonly #options: VllmRunnerOptions
  readonly #tools: VllmTools
  readonly #line: StartLine<VllmSequence>
  readonly #requests: LiveRequests<VllmSequence>
  readonly #observer: StepObserver
  readonly #bell: LoopBell
  readonly #busy = new BusyTime()
  /** Started and not ended. */
  readonly #held = new Set<VllmSequence>()
  #arrived: Arrival[] = []
  /** Streams that are not read until their consumers have room. */
  readonly #paused = new Map<VllmSequence, () => void>()
  #isClosed = false
  readonly #loop: Promise<void>

  constructor(options: VllmRunnerOptions) {
    this.#options = options
    this.#tools = new VllmTools(options.client, options.model)
    this.#observer = new StepObserver(options.metrics)
    this.#bell = new LoopBell(options.clock)
    this.#line = new StartLine({
      parts: options,
      slotCount: options.slotCount,
      sequenceCount: options.sequenceCount,
      running: () => this.#held,
      isShort: () => false,
      stepMs: () => this.#observer.cost.stepMs,
      stepsLeft: (sequence) => sequence.stepsLeft,
      promptCost: () => this.#observer.cost.promptCost,
      create: (input) => new VllmSequence(input),
      onSettled: (settlement) => this.#giveBack(settlement),
      wake: () => this.#bell.ring(),
    })
    this.#requests = this.#line.requests
    this.#loop = this.#run()
  }

  /**
   * Accepts a request into the queue. Rejects with HostError: `host_draining`, `engine_failed`,
   * `queue_full`, `journal_full`, `request_duplicate`, `invalid_request`,
   * `context_length_exceeded`.
   */
  async submit(request: GenerateRequest): Promise<Generation> {
    this.#requests.assertMayEnter(request)
    if (!this.#options.watch.isUp) throw serverFailed(null)
    const prompt = await createVllmPrompt({ ...this.#options, tools: this.#tools }, request)
    // The server took its time over the prompt.
    this.#requests.assertMayEnter(request)
    return this.#line.accept(request, prompt)
  }

  cancel(cancel: CancelRequest): CancelReceipt['outcome'] {
    return this.#requests.cancel(cancel)
  }

  load(): SchedulerLoad {
    const { placeCount } = this.#options
    return { ...this.#line.load(), slots: placeCount, kvTokensMax: 0, kvTokensFree: 0 }
  }

  waitingTenants(): readonly WaitingTenant[] {
    return this.#line.waitingTenants()
  }

  sequencesByAdapter(): Map<string, number> {
    return this.#requests.sequencesByAdapter()
  }

  get isDraining(): boolean {
    return this.#requests.isDraining
  }

  get isFailing(): boolean {
    return !this.#options.watch.isUp
  }

  get isServing(): boolean {
    return !this.isDraining && !this.isFailing
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
      this.#apply(this.#arrived.splice(0))
      this.#resume()
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
    const sequencesFree = this.#options.sequenceCount - this.#held.size
    if (this.#line.queue.depth === 0 || sequencesFree <= 0) return
    for (const sequence of this.#line.start(sequencesFree)) this.#start(sequence)
  }

  #start(sequence: VllmSequence): void {
    this.#held.add(sequence)
    this.#follow(sequence).catch((error: unknown) => {
      // Whoever ended it closed its stream: that is no failure of the server.
      if (sequence.state === 'ended' || sequence.order !== null) return
      this.#requests.order(sequence.owner, toEndOrder(this.#toRequestError(sequence, error)))
    })
  }

  async #follow(sequence: VllmSequence): Promise<void> {
    const { adapters } = this.#options
    const { digest, abortStart } = sequence
    if (digest !== null) {
      const lease = await adapters.acquire(digest, abortStart.signal)
      if (!this.#takeLease(sequence, lease)) return
    }
    sequence.state = 'prefilling'
    const nowUs = this.#options.clock.nowUs()
    this.#busy.start(nowUs)
    this.#observer.begun(sequence, nowUs)
    for (let reloads = 0; ; reloads += 1) {
      try {
        await this.#read(sequence)
        return
      } catch (error) {
        if (!isAdapterLost(error) || digest === null || reloads >= RELOADS_MAX) throw error
        this.#options.loras.forget(digest)
      }
    }
  }

  /** False = the sequence has ended while it waited. */
  #takeLease(sequence: VllmSequence, lease: SlotLease): boolean {
    if (sequence.state === 'ended') {
      this.#observer.swapUnused(lease.swapUs)
      lease.release()
      return false
    }
    sequence.lease = lease
    this.#observer.swapped(sequence, lease.swapUs)
    return true
  }

  async #read(sequence: VllmSequence): Promise<void> {
    const { client, loras, model } = this.#options
    const { digest, owner, seed, abortStart } = sequence
    if (digest !== null) await loras.ensure(digest)
    this.#assertOwnSlot(sequence)
    const body = toCompletionBody({
      request: owner.request,
      prompt: owner.prompt,
      seed,
      salt: kvSalt(toOwner(sequence, loras.info.baseDigest)),
      model: digest === null ? model : loras.nameOf(digest),
    })
    for await (const delta of client.complete(body, abortStart.signal)) {
      assertSamePrompt(sequence, delta)
      this.#arrived.push({ sequence, delta })
      this.#bell.ring()
      await new Promise<void>((resume) => this.#paused.set(sequence, resume))
    }
  }

  /** Of what is asked of the server next: nothing must be asked of another's adapter. */
  #assertOwnSlot(sequence: VllmSequence): void {
    const breach = findSlotBreach(sequence)
    if (breach === null) return
    this.#options.metrics.isolationBreaches.inc()
    throw new HostError('engine_failed', 'the engine failed', { cause: breach })
  }

  #apply(arrivals: readonly Arrival[]): void {
    // What comes after its client left is dropped: neither sent, journalled nor billed.
    const live = arrivals.filter(({ sequence }) => sequence.order === null)
    if (live.length === 0) return
    const { clock } = this.#options
    const nowUs = clock.nowUs()
    const tokens = live.map(({ sequence, delta }) => sequence.tokensWith(delta))
    const shares = tokens.some((count) => count > 0) ? this.#busy.share(nowUs, tokens) : []
    const started = new Set<LiveRequest<VllmSequence>>()
    const chunks: OwnedChunk<VllmSequence>[] = []
    for (const [index, { sequence, delta }] of live.entries()) {
      const { owner } = sequence
      sequence.gpuUs += shares[index] ?? 0
      this.#line.queue.charge(sequence, sequence.costOf(delta))
      this.#observePace(sequence, delta, nowUs)
      if (!owner.hasDrawn) started.add(owner)
      if (sequence.drawnTokens === 0) {
        this.#options.metrics.tokens.inc({ kind: 'prompt' }, owner.prompt.tokens.length)
      }
      const chunk = sequence.accept(delta)
      if (chunk !== null) chunks.push({ owner, chunk })
      for (let token = 0; token < delta.tokens; token += 1) this.#observer.token(sequence, nowUs)
    }
    const progressed = new Set(live.map(({ sequence }) => sequence.owner))
    const turn = { started: [...started], progressed, chunks, endings: [] }
    this.#requests.handOver.commit(turn)
    for (const { sequence } of live) {
      if (sequence.finish !== null) this.#release(sequence)
    }
  }

  /** From token to token of a stream: the server's steps, as far as they can be seen from here. */
  #observePace(sequence: VllmSequence, { tokens }: CompletionDelta, nowUs: number): void {
    if (tokens === 0) return
    const { lastTokenUs } = sequence
    sequence.lastTokenUs = nowUs
    if (lastTokenUs === null) return
    const wallUs = (nowUs - lastTokenUs) / tokens
    this.#observer.cost.observe({ rows: 1, decodes: 1, engineUs: wallUs, wallUs })
  }

  #resume(): void {
    for (const [sequence, resume] of this.#paused) {
      if (sequence.owner.buffer.isFull && sequence.state !== 'ended') continue
      this.#paused.delete(sequence)
      resume()
    }
  }

  /** Gives everything back that the sequence held, and closes its stream. Idempotent. */
  #release(sequence: VllmSequence): void {
    const { state } = sequence
    if (state === 'ended') return
    this.#line.end(sequence)
    sequence.state = 'ended'
    this.#held.delete(sequence)
    sequence.lease?.release()
    if (state === 'prefilling' || state === 'decoding') {
      const us = this.#busy.end(this.#options.clock.nowUs())
      this.#options.metrics.unattributedSeconds.inc({ kind: 'step' }, us / 1e6)
    }
    sequence.abortStart.abort('ended')
    this.#bell.ring()
  }

  #giveBack({ ending: { owner, finish, error }, record }: Settlement<VllmSequence>): void {
    if (record.event === null) this.#observer.owesNothing(owner)
    for (const sequence of owner.sequences) this.#release(sequence)
    this.#options.metrics.requests.inc({ outcome: error?.code ?? finish })
  }

  #toRequestError(sequence: VllmSequence, error: unknown): unknown {
    if (!(error instanceof VllmError)) return error
    const { log, watch } = this.#options
    const { grammar } = sequence.owner.request.sampling
    if (error.failure === 'refused') {
      const param = grammar === null ? 'body' : 'grammar'
      return new HostError('invalid_request', error.message, { param, cause: error })
    }
    if (error.failure === 'unreachable') watch.lost(error)
    else log('error', 'the vLLM server failed a request', { reason: error.message })
    return serverFailed(error)
  }
}

/** Of the very tokens that were sent: anything else would be billed for another prompt. */
function assertSamePrompt({ owner }: VllmSequence, { promptTokens }: CompletionDelta): void {
  const sent = owner.prompt.tokens.length
  if (promptTokens === sent) return
  throw new VllmError('failed', `vLLM read ${promptTokens} prompt tokens of ${sent}`)
}

function isAdapterLost(error: unknown): boolean {
  return error instanceof VllmError && error.failure === 'unknown_model'
}
