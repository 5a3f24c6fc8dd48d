/**
 * One choice of a request, which is one completion of the vLLM server: queued → starting (waits for
 * its adapter) → prefilling (asked for) → decoding (the first token is here) → ended. What is known
 * of the prompt is what the server says with its first token: until then none of it counts as read.
 */

import type { ChunkEvent, TokenLogprobs } from '../protocol.ts'
import type { SlotLease } from '../scheduler/adapter-port.ts'
import type { Choice, SequenceState } from '../scheduler/choice.ts'
import { ChunkTally } from '../scheduler/chunk-tally.ts'
import type { EndOrder } from '../scheduler/end-order.ts'
import type { LiveRequest } from '../scheduler/live-request.ts'
import { choiceSeed } from '../scheduler/sequence.ts'
import { RequestTiming } from '../telemetry/request-timing.ts'
import type { CompletionDelta } from './completion-stream.ts'
import { ShownTokens } from './shown-tokens.ts'

export interface VllmSequenceInput {
  readonly owner: LiveRequest<VllmSequence>
  readonly choice: number
  readonly acceptedUs: number
  /** Called once, when the sequence leaves the queue. */
  readonly leaveQueue: () => void
}

export class VllmSequence implements Choice {
  readonly owner: LiveRequest<VllmSequence>
  readonly choice: number
  readonly timing: RequestTiming
  readonly abortStart = new AbortController()
  readonly leaveQueue: () => void

  state: SequenceState = 'queued'
  lease: SlotLease | null = null
  finish: 'stop' | 'length' | null = null
  gpuUs = 0
  drawnTokens = 0
  /** Since when a slot was missing; null = it was not. */
  blockedSinceUs: number | null = null
  #cachedTokens = 0
  readonly #shown: ShownTokens
  readonly #tally: ChunkTally

  constructor({ owner, choice, acceptedUs, leaveQueue }: VllmSequenceInput) {
    const { stop, logprobs } = owner.request
    this.owner = owner
    this.choice = choice
    this.timing = new RequestTiming(acceptedUs)
    this.leaveQueue = leaveQueue
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

  get costTokens(): number {
    const { tokens, completionTokensMax } = this.owner.prompt
    return tokens.length + completionTokensMax
  }

  /** Tokens that it may still draw, and the prompt while nothing is known of it. */
  get rowsLeftMax(): number {
    const { rows } = this.promptRead
    return this.costTokens - rows - this.drawnTokens
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
