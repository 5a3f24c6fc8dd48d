/**
 * One request's timestamps and what follows from them: queue time, TTFT, ITL, TPOT. Pure: times are
 * handed in, monotonic microseconds of one clock.
 */
export class RequestTiming {
  readonly acceptedUs: number
  #firstRowUs: number | null = null
  #firstTokenUs: number | null = null
  #lastTokenUs: number | null = null
  #tokens = 0

  constructor(acceptedUs: number) {
    this.acceptedUs = acceptedUs
  }

  /** The first time it is called, answers the queue time; null later. */
  markRow(nowUs: number): number | null {
    if (this.#firstRowUs !== null) return null
    this.#firstRowUs = nowUs
    return nowUs - this.acceptedUs
  }

  /** Answers the gap to the token before; null for the first token. */
  markToken(nowUs: number): number | null {
    const gapUs = this.#lastTokenUs === null ? null : nowUs - this.#lastTokenUs
    this.#firstTokenUs ??= nowUs
    this.#lastTokenUs = nowUs
    this.#tokens += 1
    return gapUs
  }

  /** Accepted → first row run; counts until `nowUs` while the request still waits. */
  queueUs(nowUs: number): number {
    return (this.#firstRowUs ?? nowUs) - this.acceptedUs
  }

  /** null = no token was made. */
  get ttftUs(): number | null {
    return this.#firstTokenUs === null ? null : this.#firstTokenUs - this.acceptedUs
  }

  /** (last − first token) ÷ (tokens − 1); null below two tokens. */
  get tpotUs(): number | null {
    if (this.#firstTokenUs === null || this.#lastTokenUs === null || this.#tokens < 2) return null
    return (this.#lastTokenUs - this.#firstTokenUs) / (this.#tokens - 1)
  }
}
