/**
 * The client of the bench: asks the one question over connections that stay open, says when the
 * first token and the end came, and checks each answer to the letter. As lean as may be, since it
 * shares the cores with what it measures.
 */
import { Client, type Dispatcher } from 'undici'
import { z } from 'zod'
import { ANSWER, ANSWER_TEXT } from './stub-protocol.ts'

/** Whom to ask, and how. */
export interface Call {
  readonly origin: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Value of `model`. */
  readonly model: string
}

export interface Timing {
  /** Sent → first token at the client, milliseconds. */
  readonly firstMs: number
  /** Sent → all of the reply at the client, milliseconds. */
  readonly endMs: number
}

export const KINDS = ['whole', 'stream'] as const
export type Kind = (typeof KINDS)[number]

const FIRST_TOKEN = ANSWER[0]
/** A gateway that says nothing for so long fails the run. */
const SILENCE_MS_MAX = 20_000
/** Some 120 tokens, as questions of chats are. */
const PROMPT = 'Which plants of this garden would you move before the frost, and why? '.repeat(8)

const wholeReply = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })).length(1),
  usage: z.object({ completion_tokens: z.literal(ANSWER.length) }),
})
const frame = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
})

/** One connection. */
export class Caller {
  readonly #call: Call
  readonly #client: Client
  readonly #bodies: Readonly<Record<Kind, string>>

  constructor(call: Call) {
    this.#call = call
    this.#client = new Client(call.origin, {
      headersTimeout: SILENCE_MS_MAX,
      bodyTimeout: SILENCE_MS_MAX,
    })
    this.#bodies = { whole: toBody(call.model, false), stream: toBody(call.model, true) }
  }

  /** Rejects when the answer is another one, or none. */
  async ask(kind: Kind): Promise<Timing> {
    const { path, headers } = this.#call
    const startMs = performance.now()
    const reply = await new Promise<ReplyHandler>((resolve, reject) => {
      const handler = new ReplyHandler(resolve, reject)
      const request = { path, method: 'POST', headers, body: this.#bodies[kind] } as const
      this.#client.dispatch(request, handler)
    })
    const { text, firstMs, endMs } = reply
    check(kind, text)
    return { firstMs: firstMs - startMs, endMs: endMs - startMs }
  }

  async close(): Promise<void> {
    await this.#client.destroy()
  }
}

class ReplyHandler implements Dispatcher.DispatchHandler {
  text = ''
  firstMs = Number.NaN
  endMs = Number.NaN
  #status = 0
  readonly #resolve: (reply: ReplyHandler) => void
  readonly #reject: (error: Error) => void

  constructor(resolve: (reply: ReplyHandler) => void, reject: (error: Error) => void) {
    this.#resolve = resolve
    this.#reject = reject
  }

  /** undici asks for one. */
  onRequestStart(): void {}

  onResponseStart(_: Dispatcher.DispatchController, status: number): void {
    this.#status = status
  }

  onResponseData(_: Dispatcher.DispatchController, piece: Buffer): void {
    // The answer is ASCII: no character is cut.
    this.text += piece.toString('latin1')
    if (Number.isNaN(this.firstMs) && this.text.includes(FIRST_TOKEN)) {
      this.firstMs = performance.now()
    }
  }

  onResponseEnd(): void {
    this.endMs = performance.now()
    if (this.#status === 200) this.#resolve(this)
    else this.#reject(new Error(`answered ${this.#status}: ${this.text.slice(0, 500)}`))
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#reject(error)
  }
}

function check(kind: Kind, text: string): void {
  const content =
    kind === 'whole'
      ? wholeReply.parse(JSON.parse(text)).choices.map(({ message }) => message.content)
      : readFrames(text)
  if (content.join('') === ANSWER_TEXT) return
  throw new Error(`not the answer: ${text.slice(0, 500)}`)
}

function readFrames(text: string): string[] {
  const frames = [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)
  if (frames.pop() !== '[DONE]') throw new Error(`the stream broke off: ${text.slice(-500)}`)
  return frames.flatMap((data) =>
    frame.parse(JSON.parse(data)).choices.map(({ delta }) => delta.content ?? ''),
  )
}

function toBody(model: string, stream: boolean): string {
  return JSON.stringify({
    model,
    messages: [{ role: 'user', content: PROMPT }],
    max_tokens: ANSWER.length,
    temperature: 0,
    ...(stream && { stream }),
  })
}
