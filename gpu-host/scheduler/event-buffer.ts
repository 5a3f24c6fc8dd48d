/**
 * The hand-over from the step loop to one consumer, bounded in events and in bytes. The loop never
 * waits on it: `isFull` tells it to leave the sequence out until the consumer has taken half of
 * what is held.
 *
 * What a waiting consumer is pushed is handed over then and there, and its pusher has recorded it.
 * A chunk that nobody waits for is recorded when it is taken, so what lies here is owed by nobody.
 */
import type { ChunkEvent, GenerateEvent } from '../protocol.ts'

export interface EventBufferOptions {
  readonly eventsMax: number
  /** Beyond it by one event at most: what a step has made is held. */
  readonly bytesMax: number
  /** The buffer was full and is not any more. */
  readonly onRoom: () => void
  /** Called before a chunk that lay here is handed over; false = it must not be. */
  readonly record: (chunk: ChunkEvent) => boolean
}

export class EventBuffer {
  readonly #options: EventBufferOptions
  #events: { readonly event: GenerateEvent; readonly bytes: number }[] = []
  #bytes = 0
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
    return this.#events.some(({ event }) => event.type === 'chunk')
  }

  /** What is held, as it would go over the wire, give or take some bytes of punctuation. */
  get bytes(): number {
    return this.#bytes
  }

  push(event: GenerateEvent): void {
    if (this.#isEnded) return
    if (this.#hand !== null) {
      this.#handOver(event)
      return
    }
    const bytes = sizeOf(event)
    this.#events.push({ event, bytes })
    this.#bytes += bytes
    const { eventsMax, bytesMax } = this.#options
    if (this.#events.length >= eventsMax || this.#bytes >= bytesMax) this.#isFull = true
  }

  /** Forgets the chunks that nobody took. */
  dropChunks(): void {
    this.#events = this.#events.filter(({ event }) => event.type !== 'chunk')
    this.#bytes = this.#events.reduce((sum, { bytes }) => sum + bytes, 0)
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
    const taken = this.#events.shift()
    this.#bytes -= taken?.bytes ?? 0
    const { eventsMax, bytesMax } = this.#options
    const hasRoom = this.#events.length <= eventsMax / 2 && this.#bytes <= bytesMax / 2
    if (this.#isFull && hasRoom) {
      this.#isFull = false
      this.#options.onRoom()
    }
    return taken?.event
  }

  #handOver(event: GenerateEvent | null): void {
    const hand = this.#hand
    this.#hand = null
    hand?.(event)
  }
}

/** Names and punctuation of an event without its text. */
const FRAME_BYTES = 128

function sizeOf(event: GenerateEvent): number {
  if (event.type !== 'chunk') return FRAME_BYTES
  const { text, logprobs } = event
  const textBytes = Buffer.byteLength(text) + FRAME_BYTES
  return logprobs === undefined
    ? textBytes
    : textBytes + Buffer.byteLength(JSON.stringify(logprobs))
}
