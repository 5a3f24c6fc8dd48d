/**
 * A client on a socket of its own that reads, lets lie or leaves as told, and counts what it got.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { AnswerTally } from './answer-tally.ts'

export interface CallerOptions {
  readonly url: string
  readonly key: string
  readonly body: object
  /** Tokens of a choice that ends by itself. */
  readonly choiceTokens: number
  /** Lets what arrives lie until `drain`. */
  readonly isLate: boolean
}

export class StreamCaller {
  readonly tally: AnswerTally
  readonly #request: ClientRequest
  #response: IncomingMessage | null = null
  #isReading: boolean
  /** When the edge was last heard of; by a clock that only grows. */
  heardMs = 0
  hasLeft = false

  constructor(options: CallerOptions) {
    this.tally = new AnswerTally(options.choiceTokens)
    this.#isReading = !options.isLate
    this.#request = request(`${options.url}/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${options.key}`, 'content-type': 'application/json' },
    })
    this.#request.on('error', () => {})
    this.#request.on('response', (response) => {
      this.#response = response
      response.on('error', () => {})
      if (this.#isReading) this.drain()
    })
    this.#request.end(JSON.stringify(options.body))
  }

  /** Begins to read, at once or as soon as there is a reply. */
  drain(): void {
    this.#isReading = true
    const response = this.#response
    if (response === null || response.listenerCount('data') > 0) return
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      this.heardMs = performance.now()
      if (!this.hasLeft) this.tally.take(text)
    })
  }

  leave(): void {
    this.hasLeft = true
    this.#request.destroy()
  }
}
