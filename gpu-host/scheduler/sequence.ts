/**
 * One request's life:
 *
 *   queued ──► starting ──► prefilling ──► decoding ──► ended
 *     └───────────┴──────────────┴────────────┴──────────►
 *
 * queued: in a tenant's line, its adapter on the way to RAM. starting: holds an engine sequence and
 * waits for its slot lease. prefilling, decoding: its rows are in steps, its slot is pinned. It may
 * end from any state, once. Counts here are what the journal is told; only the scheduler changes
 * them.
 */
import type { Engine, SampledToken } from '../engine.ts'
import { errorCodeOf, HostError, toHostError } from '../errors.ts'
import type {
  AdapterSource,
  FinishReason,
  GenerateEvent,
  GenerateRequest,
  TokenLogprobs,
} from '../protocol.ts'
import { RequestTiming } from '../telemetry/request-timing.ts'
import type { RequestTotals } from '../telemetry/usage-event.ts'
import { Detokenizer } from '../text/detokenizer.ts'
import type { Prompt } from '../text/prompt.ts'
import { StopMatcher } from '../text/stop-matcher.ts'
import type { SlotLease } from './adapter-port.ts'
import type { EventBuffer } from './event-buffer.ts'

export type SequenceState = 'queued' | 'starting' | 'prefilling' | 'decoding' | 'ended'
type ChunkEvent = Extract<GenerateEvent, { type: 'chunk' }>

/** Why a sequence must end before its time. */
export interface EndOrder {
  readonly finish: 'abort' | 'error'
  /** null = nobody is left to be told. */
  readonly error: HostError | null
}

export interface SequenceInput {
  readonly handle: number
  readonly request: GenerateRequest
  readonly prompt: Prompt
  readonly buffer: EventBuffer
  readonly acceptedUs: number
  readonly startedAt: string
  readonly source: AdapterSource
  /** Called once, when the request leaves the queue. */
  readonly leaveQueue: () => void
}

type TokenEngine = Pick<Engine, 'tokenBytes' | 'isEndOfGeneration'>

export class Sequence {
  readonly handle: number
  readonly request: GenerateRequest
  readonly prompt: Prompt
  readonly buffer: EventBuffer
  readonly timing: RequestTiming
  readonly startedAt: string
  /** Where the adapter was when the request arrived. */
  readonly source: AdapterSource
  readonly abortStart = new AbortController()
  readonly leaveQueue: () => void

  state: SequenceState = 'queued'
  /** Position in the engine; −1 = none. */
  engineSequence = -1
  isOpenInEngine = false
  lease: SlotLease | null = null
  order: EndOrder | null = null
  lastStep = -1
  promptRows = 0
  completionTokens = 0
  gpuUs = 0
  /** Since when the consumer has not read; null = it does. */
  pausedSinceUs: number | null = null
  /** Since when a slot was missing; null = it was not. */
  blockedSinceUs: number | null = null

  #lastToken = 0
  readonly #detokenizer = new Detokenizer()
  readonly #stopMatcher: StopMatcher

  constructor(input: SequenceInput) {
    this.handle = input.handle
    this.request = input.request
    this.prompt = input.prompt
    this.buffer = input.buffer
    this.timing = new RequestTiming(input.acceptedUs)
    this.startedAt = input.startedAt
    this.source = input.source
    this.leaveQueue = input.leaveQueue
    this.#stopMatcher = new StopMatcher(input.request.stop)
  }

  get tenantId(): string {
    return this.request.tenant_id
  }

  get costTokens(): number {
    return this.prompt.tokens.length + this.prompt.completionTokensMax
  }

  get slot(): number {
    return this.lease?.slot ?? 0
  }

  get isRunning(): boolean {
    return this.state === 'prefilling' || this.state === 'decoding'
  }

  get promptRemaining(): number {
    return this.prompt.tokens.length - this.promptRows
  }

  get totals(): RequestTotals {
    const { promptRows, completionTokens, gpuUs } = this
    return { promptRows, cachedPromptTokens: 0, completionTokens, gpuUs }
  }

  /** Asks for an early end; the first order counts. */
  orderEnd(order: EndOrder): void {
    if (this.order !== null || this.state === 'ended') return
    this.order = order
    this.abortStart.abort()
  }

  /** The token of row `offset` of the next rows. */
  tokenAt(offset: number): number {
    if (this.promptRemaining > 0) return this.prompt.tokens[this.promptRows + offset] ?? 0
    return this.#lastToken
  }

  /** Position of the next row. */
  get position(): number {
    if (this.promptRemaining > 0) return this.promptRows
    return this.prompt.tokens.length + this.completionTokens - 1
  }

  /** Takes a generated token: the chunk to send, and why the sequence is over, if it is. */
  accept(
    engine: TokenEngine,
    sampled: SampledToken,
  ): { readonly chunk: ChunkEvent; readonly finish: FinishReason | null } {
    const { token } = sampled
    this.#lastToken = token
    this.completionTokens += 1
    this.state = 'decoding'
    const isEnd = engine.isEndOfGeneration(token) && !this.request.ignore_eos
    const piece = isEnd ? '' : this.#detokenizer.push(engine.tokenBytes(token))
    let { text, isStopped } = this.#stopMatcher.push(piece)
    let finish: FinishReason | null = isEnd || isStopped ? 'stop' : null
    if (finish === null && this.completionTokens >= this.prompt.completionTokensMax) {
      finish = 'length'
    }
    if (finish !== null && !isStopped) {
      const rest = this.#stopMatcher.push(this.#detokenizer.flush())
      text += rest.text
      isStopped = rest.isStopped
      if (!isStopped) text += this.#stopMatcher.flush()
    }
    const logprobs = this.request.logprobs ? [toLogprobs(engine, sampled)] : null
    const chunk: ChunkEvent = { type: 'chunk', text, tokens: 1 }
    return { chunk: logprobs === null ? chunk : { ...chunk, logprobs }, finish }
  }

  /** Undoes the count of a token that could not be journalled, so was not sent. */
  retractToken(): void {
    this.completionTokens -= 1
  }
}

function toLogprobs(engine: TokenEngine, sampled: SampledToken): TokenLogprobs {
  const entry = (token: number, logprob: number) => {
    const bytes = engine.tokenBytes(token)
    return { token: new TextDecoder().decode(bytes), bytes: [...bytes], logprob }
  }
  return {
    ...entry(sampled.token, sampled.logprob ?? 0),
    top: sampled.top.map(({ token, logprob }) => entry(token, logprob)),
  }
}

/** What ended a request from outside the loop, in the host's own terms. */
export function toEndOrder(error: unknown): EndOrder {
  if (errorCodeOf(error) === 'invalid_grammar') {
    const message = error instanceof Error ? error.message : 'invalid grammar'
    return {
      finish: 'error',
      error: new HostError('invalid_request', message, { param: 'grammar' }),
    }
  }
  return {
    finish: 'error',
    error: toHostError(error, 'adapter_load_failed', 'adapter failed to load'),
  }
}
