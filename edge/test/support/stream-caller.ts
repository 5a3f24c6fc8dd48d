/**
 * A client on a socket of its own that reads, lets lie or leaves as told, and counts what it got. A
 * token of the fake engine is one character, so text tells tokens; a finished choice got them all.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { z } from 'zod'

const frame = z.object({
  choices: z.array(
    z.object({
      index: z.number(),
      delta: z.object({ content: z.string().optional() }).optional(),
      text: z.string().optional(),
      finish_reason: z.string().nullable(),
    }),
  ),
  usage: z.object({ completion_tokens: z.number() }).nullish(),
})
const whole = z.object({ usage: z.object({ completion_tokens: z.number() }) })

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
  readonly #options: CallerOptions
  readonly #request: ClientRequest
  #response: IncomingMessage | null = null
  #text = ''
  readonly #visible = new Map<number, number>()
  readonly #finished = new Set<number>()
  /** Milliseconds of the last sign from the edge. */
  heardMs = 0
  hasLeft = false
  /** `[DONE]`, or a whole reply. */
  isComplete = false
  usageTokens: number | null = null

  constructor(options: CallerOptions) {
    this.#options = options
    this.#request = request(`${options.url}/chat/completions`, {
      method: 'POST',
      agent: false,
      headers: { authorization: `Bearer ${options.key}`, 'content-type': 'application/json' },
    })
    this.#request.on('error', () => {})
    this.#request.on('response', (response) => {
      this.#response = response
      response.on('error', () => {})
      if (!options.isLate) this.drain()
    })
    this.#request.end(JSON.stringify(options.body))
  }

  /** Tokens that this client got so far. */
  get tokens(): number {
    if (this.isComplete && this.usageTokens !== null) return this.usageTokens
    let tokens = 0
    for (const [choice, visible] of this.#visible) {
      tokens += this.#finished.has(choice) ? this.#options.choiceTokens : visible
    }
    return tokens
  }

  get finishedChoices(): number {
    return this.#finished.size
  }

  /** Begins to read. */
  drain(): void {
    const response = this.#response
    if (response === null || response.listenerCount('data') > 0) return
    response.setEncoding('utf8')
    response.on('data', (text: string) => this.#take(text))
    response.on('end', () => this.#end())
  }

  leave(): void {
    this.hasLeft = true
    this.#request.destroy()
  }

  #take(text: string): void {
    this.heardMs = performance.now()
    this.#text += text
    if (!this.#isStream) return
    const frames = this.#text.split('\n\n')
    this.#text = frames.pop() ?? ''
    for (const each of frames) {
      if (!each.startsWith('data: ') || this.hasLeft) continue
      if (each === 'data: [DONE]') this.isComplete = true
      else this.#count(frame.parse(JSON.parse(each.slice('data: '.length))))
    }
  }

  #count({ choices, usage }: z.infer<typeof frame>): void {
    this.usageTokens = usage?.completion_tokens ?? this.usageTokens
    for (const { index, delta, text, finish_reason } of choices) {
      const shown = (delta?.content ?? text ?? '').length
      this.#visible.set(index, (this.#visible.get(index) ?? 0) + shown)
      if (finish_reason !== null) this.#finished.add(index)
    }
  }

  #end(): void {
    this.heardMs = performance.now()
    if (this.#isStream || this.hasLeft) return
    const reply = whole.safeParse(JSON.parse(this.#text))
    if (!reply.success) return
    this.isComplete = true
    this.usageTokens = reply.data.usage.completion_tokens
  }

  get #isStream(): boolean {
    return this.#response?.headers['content-type']?.includes('event-stream') ?? false
  }
}
