/**
 * Which tokens of a vLLM stream are out with their text. Where a request has stop strings, vLLM
 * keeps the last characters back, as many as the longest of them has but one, so what it shows lags
 * behind what it has drawn: a token is owed, and its log probability told, with the last of its
 * text. How long the whole text is follows from what is shown, as soon as anything is; of tokens
 * before that it is taken to be as long as it can be, so they are owed late, never early.
 */
import type { TokenLogprobs } from '../protocol.ts'
import type { OutputPiece } from '../text/text-output.ts'
import type { CompletionDelta } from './completion-stream.ts'

interface HeldTokens {
  readonly tokens: number
  readonly logprobs: TokenLogprobs | null
  /** Characters that must be out. */
  readonly end: number
}

type Piece = Omit<OutputPiece, 'isStopped'>

export class ShownTokens {
  readonly #heldCharacters: number
  #held: HeldTokens[] = []
  #shownCharacters = 0
  /** Of the text up to the last token; at most. */
  #drawnCharacters = 0

  constructor(stops: readonly string[]) {
    this.#heldCharacters = Math.max(0, ...stops.map((stop) => countCharacters(stop) - 1))
  }

  /** What comes to light with the delta; its text is. With the last one, all tokens are owed. */
  push(delta: CompletionDelta): Piece {
    this.#shownCharacters += countCharacters(delta.text)
    this.#held.push(...this.#toHeld(delta))
    const isShown = ({ end }: HeldTokens): boolean => end <= this.#shownCharacters
    const shown = this.#held.filter(isShown)
    const owed = delta.finish === null ? shown : this.#held
    this.#held = this.#held.filter((held) => !owed.includes(held))
    return {
      text: delta.text,
      tokens: owed.reduce((sum, { tokens }) => sum + tokens, 0),
      logprobs: shown.flatMap(({ logprobs }) => logprobs ?? []),
    }
  }

  #toHeld({ tokens, logprobs, isEndToken }: CompletionDelta): HeldTokens[] {
    const endMax = this.#shownCharacters + this.#heldCharacters
    if (logprobs === null) return tokens === 0 ? [] : [{ tokens, logprobs: null, end: endMax }]
    return logprobs.map((each, index) => {
      const isEnd = isEndToken && index === logprobs.length - 1
      const drawn = this.#drawnCharacters + (isEnd ? 0 : countCharacters(each.token))
      this.#drawnCharacters = Math.min(drawn, endMax)
      return { tokens: 1, logprobs: isEnd ? null : each, end: this.#drawnCharacters }
    })
  }
}

function countCharacters(text: string): number {
  return [...text].length
}
