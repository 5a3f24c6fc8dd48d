/**
 * How the step loop sleeps: until the bell rings, or until it is time to look at deadlines. A ring
 * while nobody listens is kept, so none is missed.
 */
import type { Clock } from '../clock.ts'

export class LoopBell {
  readonly #clock: Clock
  #hasRung = false
  #wake: (() => void) | null = null

  constructor(clock: Clock) {
    this.#clock = clock
  }

  ring(): void {
    this.#hasRung = true
    this.#wake?.()
  }

  /** `timeoutMs` null = wait for a ring alone. */
  async heard(timeoutMs: number | null): Promise<void> {
    if (!this.#hasRung) {
      await new Promise<void>((resolve) => {
        const cancel = timeoutMs === null ? null : this.#clock.setTimer(timeoutMs, resolve)
        this.#wake = () => {
          cancel?.()
          resolve()
        }
      })
      this.#wake = null
    }
    this.#hasRung = false
  }
}
