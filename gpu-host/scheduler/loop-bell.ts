/**
 * How the step loop sleeps: until the bell rings, or until it is time to look at deadlines. A ring
 * while nobody listens is kept, so none is missed.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../clock.ts'

/** After a gap like this the process may have been stopped, and its clients be gone. */
const GAP_US_MAX = 1_000_000

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

/**
 * A process that was stopped for a while (a hang, a suspended machine) finds its edges gone: what
 * their sockets have to say is heard before anything else is done for them. `sinceUs`: when the
 * loop began to wait.
 */
export async function hearSockets(clock: Clock, sinceUs: number): Promise<void> {
  if (clock.nowUs() - sinceUs < GAP_US_MAX) return
  for (let turn = 0; turn < 2; turn++) await nextTurn()
}
