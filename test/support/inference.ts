/**
 * Inference as a client without an SDK sees it: one POST, the reply whole or in server-sent events,
 * and what it says was used. Errors are results here, since tests ask for them.
 */
import { createParser } from 'eventsource-parser'
import { z } from 'zod'

const usageSchema = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({ cached_tokens: z.int() }),
})
const errorSchema = z.object({
  message: z.string().min(1),
  type: z.string().min(1),
  param: z.string().nullable(),
  code: z.string().min(1),
})
const tokenSchema = z.object({ token: z.string(), logprob: z.number() })
/** Text completions have another shape; nobody here asks for theirs. */
const logprobSchema = tokenSchema.extend({ top_logprobs: z.array(tokenSchema) })
const logprobsSchema = z.object({ content: z.array(logprobSchema) }).nullish()
const finishSchema = z.enum(['stop', 'length'])

/** Of chat and of text completions, whole or in pieces: what is there. */
const replySchema = z.object({
  id: z.string(),
  model: z.string(),
  choices: z.array(
    z.object({
      text: z.string().optional(),
      message: z.object({ content: z.string() }).optional(),
      delta: z.object({ content: z.string().optional() }).optional(),
      logprobs: logprobsSchema,
      finish_reason: finishSchema.nullable(),
    }),
  ),
  usage: usageSchema.nullish(),
})
const errorBody = z.object({ error: errorSchema })

export type ClientUsage = z.infer<typeof usageSchema>
export type ClientError = z.infer<typeof errorSchema>

export interface Reply {
  readonly status: number
  /** Names the request in the bill. */
  readonly requestId: string
  readonly text: string
  readonly logprobs: readonly z.infer<typeof logprobSchema>[]
  readonly finish: z.infer<typeof finishSchema> | null
  /** null = not told: the request failed, or the client left. */
  readonly usage: ClientUsage | null
  readonly error: ClientError | null
}

export interface Question {
  /** An OpenAI base URL, ending in /v1. */
  readonly baseUrl: string
  readonly apiKey: string
  readonly body: Readonly<Record<string, unknown>>
  /** Default: chat. */
  readonly kind?: 'chat' | 'text'
  readonly signal?: AbortSignal
}

export function chatBody(prompt: string, maxTokens: number, more: object = {}) {
  return {
    messages: [{ role: 'user', content: prompt }],
    max_tokens: maxTokens,
    temperature: 0,
    ...more,
  }
}

/** Rejects only when the connection breaks or `signal` is aborted. */
export async function ask(question: Question): Promise<Reply> {
  const response = await send(question)
  const body: unknown = await response.json()
  if (!response.ok) return toFailure(response, errorBody.parse(body).error)
  const { choices, usage } = replySchema.parse(body)
  const [choice] = choices
  return {
    status: response.status,
    requestId: idOf(response),
    text: choice?.message?.content ?? choice?.text ?? '',
    logprobs: choice?.logprobs?.content ?? [],
    finish: choice?.finish_reason ?? null,
    usage: usage ?? null,
    error: null,
  }
}

/** A stream under way. */
export interface OpenStream {
  readonly requestId: string
  /** Resolves once this many tokens have come, or the stream is over; to the number of them. */
  tokens(count: number): Promise<number>
  /** All of it, up to its end, its error or `leave`. */
  readonly reply: Promise<Reply>
  /** As a client that closes its connection. */
  leave(): void
}

/** Asks for usage, and for log probabilities where tokens must be counted one by one. */
export async function openStream(question: Question): Promise<OpenStream | Reply> {
  const leaving = new AbortController()
  const { body } = question
  const response = await send({
    ...question,
    body: { ...body, stream: true, stream_options: { include_usage: true } },
    signal: leaving.signal,
  })
  if (!response.ok) return toFailure(response, errorBody.parse(await response.json()).error)
  const progress = new StreamProgress(response)
  return {
    requestId: idOf(response),
    tokens: (count) => progress.tokens(count),
    reply: progress.run(leaving.signal),
    leave: () => leaving.abort(),
  }
}

/** A stream from beginning to end. */
export async function askStreaming(question: Question): Promise<Reply> {
  const stream = await openStream(question)
  return 'reply' in stream ? stream.reply : stream
}

export async function requireStream(question: Question): Promise<OpenStream> {
  const stream = await openStream(question)
  if ('reply' in stream) return stream
  throw new Error(`no stream: ${JSON.stringify(stream.error)}`)
}

class StreamProgress {
  readonly #response: Response
  readonly #text: string[] = []
  readonly #logprobs: z.infer<typeof logprobSchema>[] = []
  readonly #waiters = new Set<() => void>()
  #finish: Reply['finish'] = null
  #usage: ClientUsage | null = null
  #error: ClientError | null = null
  #isDone = false
  #isOver = false

  constructor(response: Response) {
    this.#response = response
  }

  async tokens(count: number): Promise<number> {
    while (this.#logprobs.length < count && !this.#isOver) {
      await new Promise<void>((resolve) => this.#waiters.add(resolve))
    }
    return this.#logprobs.length
  }

  async run(left: AbortSignal): Promise<Reply> {
    const parser = createParser({ onEvent: ({ data }) => this.#take(data) })
    const decoder = new TextDecoder()
    try {
      for await (const bytes of this.#response.body ?? []) {
        parser.feed(decoder.decode(bytes, { stream: true }))
        this.#wake()
      }
    } catch (error) {
      if (!left.aborted) throw error
    } finally {
      this.#isOver = true
      this.#wake()
    }
    if (!this.#isDone && this.#error === null && !left.aborted) {
      throw new Error('the stream ended without [DONE] and without an error')
    }
    return {
      status: this.#response.status,
      requestId: idOf(this.#response),
      text: this.#text.join(''),
      logprobs: this.#logprobs,
      finish: this.#finish,
      usage: this.#isDone ? this.#usage : null,
      error: this.#error,
    }
  }

  #take(data: string): void {
    if (this.#isDone || this.#error !== null) throw new Error(`a frame after the last: ${data}`)
    if (data === '[DONE]') {
      this.#isDone = true
      return
    }
    const value: unknown = JSON.parse(data)
    const failure = errorBody.safeParse(value)
    if (failure.success) {
      this.#error = failure.data.error
      return
    }
    const { choices, usage } = replySchema.parse(value)
    this.#usage = usage ?? this.#usage
    for (const choice of choices) {
      this.#text.push(choice.delta?.content ?? choice.text ?? '')
      this.#logprobs.push(...(choice.logprobs?.content ?? []))
      this.#finish = choice.finish_reason ?? this.#finish
    }
  }

  #wake(): void {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const resolve of waiters) resolve()
  }
}

function send({ baseUrl, apiKey, body, kind = 'chat', signal }: Question): Promise<Response> {
  const path = kind === 'chat' ? 'chat/completions' : 'completions'
  return fetch(`${baseUrl}/${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: signal ?? null,
  })
}

function toFailure(response: Response, error: ClientError): Reply {
  const { status } = response
  const requestId = idOf(response)
  return { status, requestId, text: '', logprobs: [], finish: null, usage: null, error }
}

function idOf(response: Response): string {
  const id = response.headers.get('x-request-id')
  if (id === null) throw new Error('a reply without x-request-id')
  return id
}
