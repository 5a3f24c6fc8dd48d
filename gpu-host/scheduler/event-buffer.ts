/**
 * The bounded hand-over from the step loop to one consumer. The loop never waits on it: `isFull`
 * tells it to leave the sequence out until the consumer has taken half of what is held.
 *
 * What a waiting consumer is pushed is handed over then and there, and its pusher has recorded it.
 * A chunk that nobody waits for is recorded when it is taken, so what lies here is owed by nobody.
 */
import type { ChunkEvent, GenerateEvent } from '../protocol.ts'

export interface EventBufferOptions {
  readonly eventsMax: number
  /** The buffer was full and is not any more. */
  readonly onRoom: () => void
  /** Called before a chunk that lay here is handed over; false = it must not be. */
  readonly record: (chunk: ChunkEvent) => boolean
}

export class EventBuffer {
  readonly #options: EventBufferOptions
  #events: GenerateEvent[] = []
  #isFull = false
  #isEnded = false
  #hand: ((event: GenerateEvent | null) => void) | null = null

  constructor(options: EventBufferOptions) {
    this.#options = options
  }

  get isFull(): boolean {
    return this.#isFull
  }

  /** The consumer waits: the next event that is pushed is handed over at once. */
  get isAwaited(): boolean {
    return this.#hand !== null
  }

  get hasChunks(): boolean {
    return this.#events.some(({ type }) => type === 'chunk')
  }

  push(event: GenerateEvent): void {
    if (this.#isEnded) return
    if (this.#hand !== null) {
      this.#handOver(event)
      return
    }
    this.#events.push(event)
    if (this.#events.length >= this.#options.eventsMax) this.#isFull = true
  }

  /** Forgets the chunks that nobody took. */
  dropChunks(): void {
    this.#events = this.#events.filter(({ type }) => type !== 'chunk')
  }

  /** No event follows. What is held can still be taken. */
  end(): void {
    this.#isEnded = true
    if (this.#hand !== null) this.#handOver(null)
  }

  /** The next event, or null after the last. One caller at a time. */
  next(): Promise<GenerateEvent | null> {
    for (let event = this.#shift(); event !== undefined; event = this.#shift()) {
      if (event.type !== 'chunk' || this.#options.record(event)) return Promise.resolve(event)
    }
    if (this.#isEnded) return Promise.resolve(null)
    return new Promise((resolve) => {
      this.#hand = resolve
    })
  }

  #shift(): GenerateEvent | undefined {
    const event = this.#events.shift()
    if (this.#isFull && this.#events.length <= this.#options.eventsMax / 2) {
      this.#isFull = false
      this.#options.onRoom()
    }
    return event
  }

  #handOver(event: GenerateEvent | null): void {
    const hand = this.#hand
    this.#hand = null
    hand?.(event)
  }
}
