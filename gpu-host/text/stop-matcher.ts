/**
 * Stop strings across pieces. Text that might be the beginning of a stop string is held back until
 * it is clear that it is not; at a match, everything before the stop is released and the stop
 * string and all after it never are.
 */
export interface StopResult {
  /** Text that may be shown now. */
  readonly text: string
  readonly isStopped: boolean
}

export class StopMatcher {
  readonly #stops: readonly string[]
  #held = ''
  #isStopped = false

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  push(piece: string): StopResult {
    if (this.#isStopped) return { text: '', isStopped: true }
    if (this.#stops.length === 0) return { text: piece, isStopped: false }
    const text = this.#held + piece
    const at = earliestMatch(text, this.#stops)
    if (at >= 0) {
      this.#isStopped = true
      this.#held = ''
      return { text: text.slice(0, at), isStopped: true }
    }
    const heldLength = longestPartialMatch(text, this.#stops)
    this.#held = text.slice(text.length - heldLength)
    return { text: text.slice(0, text.length - heldLength), isStopped: false }
  }

  /** What was held back when the stream ends without a stop string. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }
}

function earliestMatch(text: string, stops: readonly string[]): number {
  let first = -1
  for (const stop of stops) {
    const at = text.indexOf(stop)
    if (at >= 0 && (first < 0 || at < first)) first = at
  }
  return first
}

/** Length of the longest end of `text` that begins a stop string. */
function longestPartialMatch(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    const lengthMax = Math.min(stop.length - 1, text.length)
    for (let length = lengthMax; length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}
