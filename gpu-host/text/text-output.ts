/**
 * Generated tokens → what a client may see: whole characters, nothing of a stop string. A token is
 * shown, and its log probability told, with the last of its text.
 */
import type { TokenLogprobs } from '../protocol.ts'
import { Detokenizer, endsInsideCharacter } from './detokenizer.ts'
import { StopMatcher } from './stop-matcher.ts'

export interface OutputPiece {
  readonly text: string
  /** Tokens of which nothing is held back any more. */
  readonly tokens: number
  readonly logprobs: readonly TokenLogprobs[]
  readonly isStopped: boolean
}

export class TextOutput {
  readonly #detokenizer = new Detokenizer()
  readonly #stopMatcher: StopMatcher
  /** Tokens whose text is not out yet; `end` in UTF-16 units of the whole text. */
  #held: { readonly logprobs: TokenLogprobs | null; readonly end: number }[] = []
  #decodedLength = 0
  #shownLength = 0

  constructor(stops: readonly string[]) {
    this.#stopMatcher = new StopMatcher(stops)
  }

  /** Takes a token; `logprobs` null = none were asked for. */
  push(bytes: Uint8Array, logprobs: TokenLogprobs | null): OutputPiece {
    const piece = this.#detokenizer.push(bytes)
    this.#decodedLength += piece.length
    const isCut = endsInsideCharacter(bytes) || (piece === '' && bytes.length > 0)
    const end = this.#decodedLength + (isCut ? 1 : 0)
    this.#held.push({ logprobs, end: Math.max(end, this.#held.at(-1)?.end ?? 0) })
    const { text, isStopped } = this.#stopMatcher.push(piece)
    return this.#show(text, isStopped)
  }

  /** No token follows: what was held back is shown, unless it holds a stop string after all. */
  end(): OutputPiece {
    const rest = this.#stopMatcher.push(this.#detokenizer.flush())
    if (rest.isStopped) return this.#show(rest.text, true)
    const text = rest.text + this.#stopMatcher.flush()
    return toPiece(text, this.#held.splice(0), false)
  }

  #show(text: string, isStopped: boolean): OutputPiece {
    this.#shownLength += text.length
    const shown = this.#held.filter(({ end }) => end <= this.#shownLength)
    this.#held = this.#held.slice(shown.length)
    return toPiece(text, shown, isStopped)
  }
}

function toPiece(
  text: string,
  shown: readonly { readonly logprobs: TokenLogprobs | null }[],
  isStopped: boolean,
): OutputPiece {
  const logprobs = shown.flatMap((token) => token.logprobs ?? [])
  return { text, tokens: shown.length, logprobs, isStopped }
}
