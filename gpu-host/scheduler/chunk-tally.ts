/**
 * Which tokens each chunk of a choice stands for: its own, and those before it that showed nothing;
 * the last chunk stands for all that are left. So the chunks of a choice sum to what it drew.
 */
import type { ChunkEvent } from '../protocol.ts'
import type { OutputPiece } from '../text/text-output.ts'

export interface TallyInput {
  readonly choice: number
  readonly withLogprobs: boolean
}

export class ChunkTally {
  readonly #input: TallyInput
  /** Tokens that chunks stand for so far; the rest is owed when its text is shown. */
  #saidTokens = 0
  /** Tokens that were shown but had nothing to say: they go with the next chunk. */
  #silentTokens = 0

  constructor(input: TallyInput) {
    this.#input = input
  }

  /** null = there is nothing to show yet. `drawnTokens` counts all of the choice so far. */
  chunk(
    { text, tokens: shownTokens, logprobs }: Omit<OutputPiece, 'isStopped'>,
    finish: ChunkEvent['finish_reason'],
    drawnTokens: number,
  ): ChunkEvent | null {
    const { choice, withLogprobs } = this.#input
    this.#silentTokens += shownTokens
    if (text === '' && logprobs.length === 0 && finish === null) return null
    const tokens = finish === null ? this.#silentTokens : drawnTokens - this.#saidTokens
    this.#silentTokens = 0
    this.#saidTokens += tokens
    const chunk: ChunkEvent = { type: 'chunk', choice, text, tokens, finish_reason: finish }
    return withLogprobs ? { ...chunk, logprobs: [...logprobs] } : chunk
  }
}
