/** The clock of one life: when its process dies, so do its timers. */
import type { Clock } from '../../gpu-host/clock.ts'

export class MortalClock implements Clock {
  readonly #clock: Clock
  #isDead = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  nowMs(): number {
    return this.#clock.nowMs()
  }

  nowUs(): number {
    return this.#clock.nowUs()
  }

  setTimer(delayMs: number, callback: () => void): () => void {
    return this.#clock.setTimer(delayMs, () => {
      if (!this.#isDead) callback()
    })
  }

  die(): void {
    this.#isDead = true
  }
}
