/**
 * A Clock that moves only when told. `advance` fires due timers in order and lets everything that
 * they set off settle before time goes on.
 */
import type { Clock } from '../../clock.ts'

interface Timer {
  readonly atUs: number
  readonly number: number
  readonly callback: () => void
}

export class VirtualClock implements Clock {
  #us = 0
  #number = 0
  readonly #timers = new Set<Timer>()
  readonly #startMs: number

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#startMs = startMs
  }

  nowMs(): number {
    return this.#startMs + Math.floor(this.#us / 1000)
  }

  nowUs(): number {
    return this.#us
  }

  setTimer(delayMs: number, callback: () => void): () => void {
    const atUs = this.#us + Math.max(0, Math.round(delayMs * 1000))
    const timer = { atUs, number: this.#number++, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  async advance(ms: number): Promise<void> {
    const untilUs = this.#us + Math.round(ms * 1000)
    await settle()
    for (let due = this.#nextDue(untilUs); due !== null; due = this.#nextDue(untilUs)) {
      this.#us = Math.max(this.#us, due.atUs)
      this.#timers.delete(due)
      due.callback()
      await settle()
    }
    this.#us = untilUs
  }

  #nextDue(untilUs: number): Timer | null {
    let next: Timer | null = null
    for (const timer of this.#timers) {
      if (timer.atUs > untilUs) continue
      const isEarlier =
        next === null ||
        timer.atUs < next.atUs ||
        (timer.atUs === next.atUs && timer.number < next.number)
      if (isEarlier) next = timer
    }
    return next
  }
}

/** Lets promise chains run out: microtasks drain between two turns of the event loop. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
