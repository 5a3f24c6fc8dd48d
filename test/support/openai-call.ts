/**
 * One POST to an OpenAI route of a real pool, with its reply held against the schema that the API
 * reference shows: a field that is not there, or is sent beside it, fails the test.
 */
import { createParser } from 'eventsource-parser'
import type { z } from 'zod'
import {
  chatChunk,
  chatReply,
  completionChunk,
  completionReply,
  errorReply,
} from '../../edge/openai/reply-schemas.ts'
import type { Pool } from './pool.ts'

export type ChatReply = z.infer<typeof chatReply>
export type CompletionReply = z.infer<typeof completionReply>

const PROMPT = 'Count: one, two, three,'
export const SAYS = [{ role: 'user', content: 'Say hello to my cat.' }]

/** Few tokens, drawn the same each time, of which none ends the answer. */
export function bodyOf(route: string, model: string, fields: object): object {
  const prompt = route === 'completions' ? { prompt: PROMPT } : { messages: SAYS }
  return { model, max_tokens: 6, temperature: 0, ignore_eos: true, ...prompt, ...fields }
}

export class OpenaiCalls {
  readonly #pool: Pool
  readonly #headers: Readonly<Record<string, string>>

  constructor(pool: Pool, headers: Readonly<Record<string, string>> = {}) {
    this.#pool = pool
    this.#headers = headers
  }

  send(route: string, fields: object): Promise<Response> {
    return fetch(`${this.#pool.ready.base_url}/${route}`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${this.#pool.demoKey}`,
        'content-type': 'application/json',
        ...this.#headers,
      },
      body: JSON.stringify(bodyOf(route, this.#pool.ready.base_model, fields)),
    })
  }

  async chat(fields: object): Promise<ChatReply> {
    return chatReply.parse(await okJson(await this.send('chat/completions', fields)))
  }

  async complete(fields: object): Promise<CompletionReply> {
    return completionReply.parse(await okJson(await this.send('completions', fields)))
  }

  /** The text of the first choice, whichever route it is; with its calls, if it has any. */
  async text(route: string, fields: object): Promise<string> {
    const first =
      route === 'completions'
        ? (await this.complete(fields)).choices[0]?.text
        : toText((await this.chat(fields)).choices[0]?.message)
    if (first === undefined) throw new Error('a reply without a choice')
    return first
  }

  async chatChunks(fields: object): Promise<z.infer<typeof chatChunk>[]> {
    return framesOf(await this.send('chat/completions', { ...fields, stream: true }), chatChunk)
  }

  async completionChunks(fields: object): Promise<z.infer<typeof completionChunk>[]> {
    return framesOf(await this.send('completions', { ...fields, stream: true }), completionChunk)
  }

  /** Throws when it is served. */
  async refusal(route: string, fields: object) {
    const response = await this.send(route, fields)
    const { error } = errorReply.parse(await response.json())
    return { status: response.status, ...error }
  }
}

function toText(message: ChatReply['choices'][number]['message'] | undefined): string | undefined {
  if (message?.tool_calls === undefined) return message?.content ?? undefined
  return JSON.stringify(message.tool_calls.map((call) => call.function))
}

async function okJson(response: Response): Promise<unknown> {
  if (response.ok) return response.json()
  throw new Error(`${response.status}: ${await response.text()}`)
}

/** Up to `[DONE]`, which must come. */
async function framesOf<T extends z.ZodType>(response: Response, schema: T): Promise<z.infer<T>[]> {
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`)
  const frames: string[] = []
  createParser({ onEvent: ({ data }) => frames.push(data) }).feed(await response.text())
  if (frames.pop() !== '[DONE]') throw new Error('a stream without [DONE]')
  return frames.map((frame) => schema.parse(JSON.parse(frame)))
}
