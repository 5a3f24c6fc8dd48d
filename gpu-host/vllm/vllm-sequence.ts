/**
 * One choice of a request, which is one completion of the vLLM server: queued → starting (waits for
 * its adapter) → prefilling (asked for) → decoding (the first token is here) → ended. What is known
 * of the prompt is what the server says with its first token: until then none of it counts as read.
 */

import type { ChunkEvent, TokenLogprobs } from '../protocol.ts'
import type { SlotLease } from '../scheduler/adapter-port.ts'
import type { SequenceState } from '../scheduler/choice.ts'
import { ChunkTally } from '../scheduler/chunk-tally.ts'
import type { EndOrder } from '../scheduler/end-order.ts'
import type { LiveRequest } from '../scheduler/live-request.ts'
import { choiceSeed, toStepsLeft } from '../scheduler/sequence.ts'
import type { SequenceEstimate, Starter, StarterInput } from '../scheduler/start-line.ts'
import { RequestTiming } from '../telemetry/request-timing.ts'
import type { CompletionDelta } from './completion-stream.ts'
import { ShownTokens } from './shown-tokens.ts'

export class VllmSequence implements Starter {
  readonly owner: LiveRequest<VllmSequence>
  readonly choice: number
  readonly timing: RequestTiming
  readonly abortStart = new AbortController()
  readonly leaveQueue: () => void
  readonly costTokens: number

  state: SequenceState = 'queued'
  lease: SlotLease | null = null
  finish: 'stop' | 'length' | null = null
  gpuUs = 0
  drawnTokens = 0
  /** When its last token came; null = none has. */
  lastTokenUs: number | null = null
  /** Since when a slot was missing; null = it was not. */
  blockedSinceUs: number | null = null
  #cachedTokens = 0
  readonly #estimate: SequenceEstimate
  readonly #shown: ShownTokens
  readonly #tally: ChunkTally

  constructor({ owner, choice, acceptedUs, estimate, leaveQueue }: StarterInput<VllmSequence>) {
    const { stop, logprobs } = owner.request
    this.owner = owner
    this.choice = choice
    this.timing = new RequestTiming(acceptedUs)
    this.leaveQueue = leaveQueue
    this.#estimate = estimate
    const prompt = choice === 0 ? owner.prompt.tokens.length * estimate.promptCost : 0
    this.costTokens = prompt + estimate.expectedTokens
    this.#shown = new ShownTokens(stop)
    this.#tally = new ChunkTally({ choice, withLogprobs: logprobs })
  }

  get order(): EndOrder | null {
    return this.owner.order
  }

  get tenantId(): string {
    return this.owner.request.tenant_id
  }

  /** Of its adapter; null = base model alone. */
  get digest(): string | null {
    return this.owner.request.adapter_digest
  }

  get seed(): number {
    return choiceSeed(this.owner.seed, this.choice)
  }

  get weight(): number {
    return this.owner.request.tenant_weight
  }

  /** Tokens that it may still draw, and the prompt while nothing is known of it. */
  get rowsLeftMax(): number {
    const { tokens, completionTokensMax } = this.owner.prompt
    const { rows } = this.promptRead
    return tokens.length + completionTokensMax - rows - this.drawnTokens
  }

  /** Times that the server will still go round for it, as far as can be told. */
  get stepsLeft(): number {
    const leftMax = this.owner.prompt.completionTokensMax - this.drawnTokens
    return toStepsLeft(this.#estimate.expectedTokens, this.drawnTokens, leftMax)
  }

  get promptRead(): { readonly rows: number; readonly cachedTokens: number } {
    const rows = this.drawnTokens === 0 ? 0 : this.owner.prompt.tokens.length
    return { rows, cachedTokens: this.#cachedTokens }
  }

  /** What the server worked on for the delta: its tokens, and before the first the prompt's. */
  tokensWith(delta: CompletionDelta): number {
    const prompt = this.drawnTokens === 0 && delta.tokens > 0 ? this.owner.prompt.tokens.length : 0
    return prompt + delta.tokens
  }

  /** What the delta cost, in tokens drawn; what the server had cached costs nothing. */
  costOf(delta: CompletionDelta): number {
    if (this.drawnTokens > 0 || this.choice > 0) return delta.tokens
    const read = this.owner.prompt.tokens.length - (delta.cachedTokens ?? 0)
    return delta.tokens + read * this.#estimate.promptCost
  }

  /** The chunk to send; null while there is nothing to show. */
  accept(delta: CompletionDelta): ChunkEvent | null {
    this.state = 'decoding'
    this.drawnTokens += delta.tokens
    this.#cachedTokens = delta.cachedTokens ?? this.#cachedTokens
    this.finish = delta.finish
    const { top_logprobs: topCount } = this.owner.request
    const logprobs = delta.logprobs?.map((each) => likeliest(each, topCount)) ?? null
    return this.#tally.chunk(
      this.#shown.push({ ...delta, logprobs }),
      this.finish,
      this.drawnTokens,
    )
  }
}

/** vLLM tells the drawn token among the likeliest, whether it is one of them or not. */
function likeliest(told: TokenLogprobs, count: number): TokenLogprobs {
  const top = [...told.top].sort((a, b) => b.logprob - a.logprob).slice(0, count)
  return { ...told, top }
}
