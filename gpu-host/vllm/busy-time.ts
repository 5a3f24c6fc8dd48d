/**
 * A server does not say what a request cost it, so a host shares out the time during which the
 * server worked for it: from one arrival of tokens to the next, among the requests that got some,
 * by tokens, the prompt's with the first. The shares sum to the busy time to the microsecond. Pure:
 * times are handed in.
 */
import { shareStepTime } from '../scheduler/step-plan.ts'

export class BusyTime {
  #running = 0
  #sinceUs = 0

  start(nowUs: number): void {
    if (this.#running === 0) this.#sinceUs = nowUs
    this.#running += 1
  }

  /** Microseconds that nobody carries: the last one left, and no tokens have come since. */
  end(nowUs: number): number {
    this.#running -= 1
    return this.#running > 0 ? 0 : this.#take(nowUs)
  }

  /** One share for each of `tokens`, in microseconds. */
  share(nowUs: number, tokens: readonly number[]): number[] {
    return shareStepTime(this.#take(nowUs), tokens)
  }

  #take(nowUs: number): number {
    const us = Math.round(nowUs - this.#sinceUs)
    this.#sinceUs = nowUs
    return us
  }
}
