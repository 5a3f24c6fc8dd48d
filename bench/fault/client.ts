/**
 * One client of the edge, which counts for itself what it was given: on the fake engine a token is
 * one letter, so the letters of the text are the tokens delivered.
 */
import { type IncomingMessage, request } from 'node:http'
import { z } from 'zod'
import type { TenantKey } from './cluster.ts'
import type { PlannedRequest } from './crash-plan.ts'

export interface Delivery {
  /** Which case asked. */
  readonly number: number
  /** Key and prompt length name the request among its cluster's, where no headers came back. */
  readonly keyId: string
  readonly promptTokens: number
  readonly asked: PlannedRequest
  /** null = no headers came. */
  readonly requestId: string | null
  readonly status: number | null
  /** Tokens, of all choices. */
  readonly tokens: number
  /** The whole reply came, and nothing in it says that it failed. */
  readonly isWhole: boolean
  /** Completion tokens as the reply's own usage states them; null = it states none. */
  readonly toldTokens: number | null
}

const usage = z.object({ completion_tokens: z.int() }).nullish()
const wholeReply = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })),
  usage,
})
const frame = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().optional() }) })).default([]),
  usage,
  error: z.unknown().optional(),
})

/** A reply that neither ends nor breaks within this time counts as broken. */
const TIMEOUT_MS = 20_000

interface Received {
  requestId: string | null
  status: number | null
  tokens: number
  isWhole: boolean
  toldTokens: number | null
}

/**
 * Never rejects: a broken reply is what the bench is about. Reads the socket's own events, since a
 * fetch drops what has arrived and was not yet asked for when its connection breaks.
 */
export async function ask(
  target: { readonly url: string; readonly key: TenantKey; readonly prompt: string },
  number: number,
  asked: PlannedRequest,
  onChunk: () => void,
): Promise<Delivery> {
  const { url, key, prompt } = target
  const received: Received = {
    requestId: null,
    status: null,
    tokens: 0,
    isWhole: false,
    toldTokens: null,
  }
  await new Promise<void>((resolve) => {
    const post = request(`${url}/v1/chat/completions`, {
      method: 'POST',
      agent: false,
      timeout: TIMEOUT_MS,
      headers: { authorization: `Bearer ${key.key}`, 'content-type': 'application/json' },
    })
    post.on('timeout', () => post.destroy())
    post.on('close', resolve)
    post.on('error', () => {})
    post.on('response', (response) => takeReply(response, asked, received, onChunk))
    post.end(
      JSON.stringify({
        model: 'fake-base',
        messages: [{ role: 'user', content: prompt }],
        max_tokens: asked.tokens,
        n: asked.choices,
        stream: asked.isStream,
        ...(asked.isStream && { stream_options: { include_usage: true } }),
      }),
    )
  })
  const promptTokens = `<user>${prompt}<assistant>`.length
  return { number, asked, keyId: key.id, promptTokens, ...received }
}

function takeReply(
  response: IncomingMessage,
  asked: PlannedRequest,
  into: Received,
  onChunk: () => void,
): void {
  into.requestId = z.string().parse(response.headers['x-request-id'])
  into.status = response.statusCode ?? null
  response.on('error', () => {})
  response.setEncoding('utf8')
  let text = ''
  let hasFailed = false
  response.on('data', (piece: string) => {
    text += piece
    if (!asked.isStream) return
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = /^data: (.*)$/s.exec(text.slice(0, end))?.[1]
      text = text.slice(end + 2)
      if (data === '[DONE]') into.isWhole = !hasFailed
      else if (data !== undefined) hasFailed = takeFrame(data, into, onChunk) || hasFailed
    }
  })
  response.on('end', () => {
    if (!asked.isStream && response.complete && into.status === 200) takeWhole(text, into)
  })
}

/** True when the frame says that the reply failed. */
function takeFrame(data: string, into: Received, onChunk: () => void): boolean {
  const event = frame.parse(JSON.parse(data))
  into.toldTokens = event.usage?.completion_tokens ?? into.toldTokens
  for (const { delta } of event.choices) {
    const { length } = delta.content ?? ''
    into.tokens += length
    if (length > 0) onChunk()
  }
  return event.error !== undefined
}

function takeWhole(text: string, into: Received): void {
  const { choices, usage } = wholeReply.parse(JSON.parse(text))
  into.tokens = choices.reduce((sum, { message }) => sum + message.content.length, 0)
  into.toldTokens = usage?.completion_tokens ?? null
  into.isWhole = true
}
