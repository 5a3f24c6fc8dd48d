/**
 * One choice of a request, in the engine's terms a sequence:
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
import { HostError } from '../errors.ts'
import type { ChunkEvent, GenerateRequest, TokenLogprobs } from '../protocol.ts'
import { RequestTiming } from '../telemetry/request-timing.ts'
import type { Prompt } from '../text/prompt.ts'
import { type OutputPiece, TextOutput } from '../text/text-output.ts'
import type { SlotLease } from './adapter-port.ts'
import type { SequenceState } from './choice.ts'
import { ChunkTally } from './chunk-tally.ts'
import type { EndOrder } from './end-order.ts'
import type { EventBuffer } from './event-buffer.ts'
import type { LiveRequest } from './live-request.ts'
import type { TokenText } from './page-pool.ts'
import type { Starter, StarterInput } from './start-line.ts'

/** One that draws more than was expected goes on for this share of it, say. */
const OVERDUE_SHARE = 1 / 4

type TokenEngine = Pick<Engine, 'tokenBytes' | 'isEndOfGeneration'>

export class Sequence implements TokenText, Starter {
  readonly owner: LiveRequest<Sequence>
  /** Index among the owner's choices. */
  readonly choice: number
  readonly request: GenerateRequest
  readonly prompt: Prompt
  readonly timing: RequestTiming
  readonly abortStart = new AbortController()
  readonly leaveQueue: () => void
  /** In tokens drawn: of its prompt, which the first choice reads for all, and of its answer. */
  readonly costTokens: number

  state: SequenceState = 'queued'
  /** Position in the engine; −1 = none. */
  engineSequence = -1
  isOpenInEngine = false
  lease: SlotLease | null = null
  /** How generation ended by itself; null = it has not. */
  finish: 'stop' | 'length' | null = null
  lastStep = -1
  /** Place in the order of all starts; −1 = not started. */
  startOrder = -1
  /** KV cells that hold its tokens now. */
  filledCells = 0
  /** Prompt tokens that it found in filled cells instead of computing them. */
  cachedPromptTokens = 0
  gpuUs = 0
  /** Since when a slot was missing; null = it was not. */
  blockedSinceUs: number | null = null

  readonly #expectedTokens: number
  /** Cells that its tokens have filled at least once. */
  #reachedCells = 0
  #hasRun = false
  readonly #generated: number[] = []
  readonly #tally: ChunkTally
  readonly #output: TextOutput

  constructor(input: StarterInput<Sequence>) {
    this.owner = input.owner
    this.choice = input.choice
    this.request = input.owner.request
    this.prompt = input.owner.prompt
    this.timing = new RequestTiming(input.acceptedUs)
    this.leaveQueue = input.leaveQueue
    const { expectedTokens, promptCost } = input.estimate
    this.#expectedTokens = expectedTokens
    const prompt = input.choice === 0 ? this.prompt.tokens.length * promptCost : 0
    this.costTokens = prompt + expectedTokens
    this.#output = new TextOutput(this.request.stop)
    this.#tally = new ChunkTally({ choice: this.choice, withLogprobs: this.request.logprobs })
  }

  get buffer(): EventBuffer {
    return this.owner.buffer
  }

  get order(): EndOrder | null {
    return this.owner.order
  }

  get tenantId(): string {
    return this.request.tenant_id
  }

  get weight(): number {
    return this.request.tenant_weight
  }

  /** Of its adapter; null = base model alone. */
  get digest(): string | null {
    return this.request.adapter_digest
  }

  /** Rows that it may still run before it ends. */
  get rowsLeftMax(): number {
    return this.prompt.tokens.length + this.prompt.completionTokensMax - this.filledCells
  }

  /** Steps until it ends, where a step reads `prefillRows` of its prompt or draws one token. */
  stepsLeft(prefillRows: number): number {
    const prefill = this.isDecoding ? 0 : Math.ceil(this.rowsDue / prefillRows)
    const leftMax = this.prompt.completionTokensMax - this.drawnTokens
    return prefill + toStepsLeft(this.#expectedTokens, this.drawnTokens, leftMax)
  }

  /** Throws where its adapter is in none: slot 0 would be the base model's answer. */
  get slot(): number {
    if (this.lease !== null) return this.lease.slot
    if (this.digest !== null) throw new Error('a sequence without its adapter has no rows')
    return 0
  }

  get isRunning(): boolean {
    return this.state === 'prefilling' || this.state === 'decoding'
  }

  get tokenCount(): number {
    return this.prompt.tokens.length + this.#generated.length
  }

  tokenAt(position: number): number {
    const { tokens } = this.prompt
    return tokens[position] ?? this.#generated[position - tokens.length] ?? 0
  }

  /** Rows until the next token is drawn. */
  get rowsDue(): number {
    return this.tokenCount - this.filledCells
  }

  /** Nothing is due but the row of the token drawn last. */
  get isDecoding(): boolean {
    return this.#generated.length > 0 && this.rowsDue === 1
  }

  /** What it has read of the prompt: by rows of its own, or found. */
  get promptRead(): { readonly rows: number; readonly cachedTokens: number } {
    // What was found cached is owed once a row has made use of it.
    if (!this.#hasRun) return { rows: 0, cachedTokens: 0 }
    const rows = Math.min(this.#reachedCells, this.prompt.tokens.length)
    return { rows, cachedTokens: this.cachedPromptTokens }
  }

  /** Tokens drawn, handed over or not. */
  get drawnTokens(): number {
    return this.#generated.length
  }

  /** Takes cells that are filled already, in the place of those that it had. */
  takeCells(filledCells: number): void {
    this.filledCells = filledCells
    if (!this.#hasRun) {
      this.cachedPromptTokens = 0
      this.#reachedCells = 0
    }
    const inPrompt = (cells: number): number => Math.min(cells, this.prompt.tokens.length)
    this.cachedPromptTokens += Math.max(0, inPrompt(filledCells) - inPrompt(this.#reachedCells))
    this.#reachedCells = Math.max(this.#reachedCells, filledCells)
  }

  /** `count` of its rows ran. Says how many were prompt tokens, and how many had run before. */
  advance(count: number): { readonly prompt: number; readonly again: number } {
    const begin = this.filledCells
    this.filledCells += count
    const again = Math.max(0, Math.min(this.#reachedCells, this.filledCells) - begin)
    const promptBefore = Math.min(Math.max(begin, this.#reachedCells), this.prompt.tokens.length)
    this.#reachedCells = Math.max(this.#reachedCells, this.filledCells)
    this.#hasRun = true
    const prompt = Math.min(this.#reachedCells, this.prompt.tokens.length) - promptBefore
    return { prompt, again }
  }

  /**
   * Takes a generated token: the chunk to send, which says whether it is the last; null while there
   * is nothing to show yet.
   */
  accept(engine: TokenEngine, sampled: SampledToken): ChunkEvent | null {
    const { token } = sampled
    this.#generated.push(token)
    this.state = 'decoding'
    const isEnd = engine.isEndOfGeneration(token) && !this.request.ignore_eos
    const isFull = this.drawnTokens >= this.prompt.completionTokensMax
    let shown: OutputPiece = NOTHING
    // The end token has no text, and OpenAI tells no log probability of it.
    if (!isEnd) {
      const logprobs = this.request.logprobs ? toLogprobs(engine, sampled) : null
      shown = this.#output.push(engine.tokenBytes(token), logprobs)
    }
    if (!shown.isStopped && (isEnd || isFull)) shown = join(shown, this.#output.end())
    if (isEnd || shown.isStopped) this.finish = 'stop'
    else if (isFull) this.finish = 'length'
    return this.#tally.chunk(shown, this.finish, this.drawnTokens)
  }
}

const NOTHING: OutputPiece = { text: '', tokens: 0, logprobs: [], isStopped: false }

function join(first: OutputPiece, last: OutputPiece): OutputPiece {
  return {
    text: first.text + last.text,
    tokens: first.tokens + last.tokens,
    logprobs: [...first.logprobs, ...last.logprobs],
    isStopped: last.isStopped,
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

/** Tokens that one will still draw which was expected to draw `expectedTokens` in all, ≥ 1. */
export function toStepsLeft(expectedTokens: number, drawnTokens: number, leftMax: number): number {
  const expected = Math.max(expectedTokens - drawnTokens, expectedTokens * OVERDUE_SHARE)
  return Math.max(1, Math.min(leftMax, Math.ceil(expected)))
}

/**
 * The seed of a choice: the request's own for the first, so that it is the answer that n = 1 gives,
 * and one a fixed stride away (2³² ÷ golden ratio, which spreads) for each that follows.
 */
export function choiceSeed(seed: number, choice: number): number {
  return (seed + Math.imul(choice, 0x9e37_79b9)) >>> 0
}

/** Why no token was drawn; null = one was. */
export function toDrawError(
  { isNonFinite, isStuck }: SampledToken,
  adapterDigest: string | null,
): HostError | null {
  // Without an adapter it is the host's own model that broke.
  if (isNonFinite && adapterDigest === null) {
    return new HostError('engine_failed', 'the model gave no finite logits')
  }
  if (isNonFinite) {
    const message =
      "the model's adapter gave no finite logits for this text: its weights overflow; " +
      'train again with a lower learning rate or a smaller lora_alpha'
    return new HostError('logits_not_finite', message, { param: 'model' })
  }
  if (!isStuck) return null
  const message =
    'the grammar cannot be followed further: it leaves no token, or is too ambiguous; ' +
    'write it so that one character decides between alternatives'
  return new HostError('invalid_request', message, { param: 'grammar' })
}
