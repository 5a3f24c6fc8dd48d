/**
 * The bounded hand-over from the step loop to one consumer. The loop never waits on it: `isFull`
 * tells it to leave the sequence out until the consumer has taken half of what is held.
 */
import type { GenerateEvent } from '../protocol.ts'

export class EventBuffer {
  readonly #eventsMax: number
  readonly #onRoom: () => void
  #events: GenerateEvent[] = []
  #isFull = false
  #isEnded = false
  #notify: (() => void) | null = null

  constructor(eventsMax: number, onRoom: () => void) {
    this.#eventsMax = eventsMax
    this.#onRoom = onRoom
  }

  get isFull(): boolean {
    return this.#isFull
  }

  push(event: GenerateEvent): void {
    if (this.#isEnded) return
    this.#events.push(event)
    if (this.#events.length >= this.#eventsMax) this.#isFull = true
    this.#wakeConsumer()
  }

  /** No event follows. What is held can still be taken. */
  end(): void {
    this.#isEnded = true
    this.#wakeConsumer()
  }

  /** The next event, or null after the last. One caller at a time. */
  async next(): Promise<GenerateEvent | null> {
    while (this.#events.length === 0 && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#notify = resolve
      })
    }
    const event = this.#events.shift() ?? null
    if (this.#isFull && this.#events.length <= this.#eventsMax / 2) {
      this.#isFull = false
      this.#onRoom()
    }
    return event
  }

  #wakeConsumer(): void {
    this.#notify?.()
    this.#notify = null
  }
}
