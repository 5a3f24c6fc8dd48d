/**
 * One client of an edge: asks a question, leaves where it was told to, and says what it was given,
 * held against what the question's answer must be. Reads the socket's own events, and counts tokens
 * by the log probabilities that come with each.
 */
import { type Agent, type ClientRequest, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { PoolTenant } from './pool-cluster.ts'
import type { Question } from './questions.ts'

/** Where in the life of its request a client goes away. */
export type LeavePoint =
  /** When part of the body has been sent. */
  | { readonly at: 'body'; readonly share: number }
  /** So long after the whole request, whatever has come by then. */
  | { readonly at: 'sent'; readonly ms: number }
  | { readonly at: 'headers' }
  | { readonly at: 'token'; readonly nth: number }
  /** All was said; the reply's end has not been read. */
  | { readonly at: 'done' }

export interface Visit {
  readonly number: number
  readonly edgeUrl: string
  readonly tenant: PoolTenant
  readonly model: string
  readonly question: Question
  /** How many are asked for: of the whole answer at most. */
  readonly completionTokens: number
  readonly isStream: boolean
  readonly leave: LeavePoint | null
  readonly agent: Agent
  /** A reply that neither goes on nor ends for so long counts as lost. */
  readonly silenceMs: number
}

export interface Reply {
  readonly visit: Visit
  /** null = no headers came. */
  requestId: string | null
  status: number | null
  /** Of the error that the reply is or ends with; `socket`: it broke off; null = neither. */
  errorCode: string | null
  errorMessage: string | null
  /** As the refusal says it, seconds; null = it says nothing. */
  retryAfter: string | null
  text: string
  tokens: number
  /** By the reply's own usage; null = it states none. */
  toldTokens: number | null
  /** All of it came. */
  isWhole: boolean
  /** Bears another request's id, or text that is not the question's answer so far. */
  isForeign: boolean
  /** Characters of its tokens so far. */
  offset: number
  /** Chunks that do not follow the one before. */
  misplaced: number
  hasLeft: boolean
  startMs: number
  /** null = no token came. */
  firstTokenMs: number | null
  lastTokenMs: number | null
  endMs: number
}

const choice = z.object({
  text: z.string(),
  logprobs: z.object({ tokens: z.array(z.string()), text_offset: z.array(z.int()) }).nullish(),
})
const frame = z.object({
  id: z.string().optional(),
  choices: z.array(choice).default([]),
  usage: z.object({ completion_tokens: z.int() }).nullish(),
  error: z.object({ code: z.string().nullish(), message: z.string() }).optional(),
})

/** Never rejects: what went wrong is in the reply. */
export async function visit(plan: Visit): Promise<Reply> {
  const reply = emptyReply(plan)
  await new Promise<void>((resolve) => {
    const { leave } = plan
    const post = request(`${plan.edgeUrl}/${plan.tenant.name}/${plan.model}/v1/completions`, {
      method: 'POST',
      agent: plan.agent,
      timeout: plan.silenceMs,
      headers: {
        authorization: `Bearer ${plan.tenant.key}`,
        'content-type': 'application/json',
      },
    })
    post.on('timeout', () => post.destroy(new Error('silence')))
    post.on('close', resolve)
    post.on('error', () => noteBreak(reply))
    post.on('response', (response) => takeReply(response, post, reply))
    const body = Buffer.from(toBody(plan))
    post.setHeader('content-length', body.length)
    if (leave?.at === 'body') {
      const sent = Math.floor(body.length * leave.share)
      post.write(body.subarray(0, sent), () => goAway(post, reply))
      return
    }
    post.end(body)
    if (leave?.at === 'sent') void sleep(leave.ms).then(() => goAway(post, reply))
  })
  reply.endMs = performance.now()
  return reply
}

/** What its client should have been given and was not, in a word; null = all is well. */
export function faultOf(reply: Reply): string | null {
  const { visit, requestId, status, errorCode, errorMessage, tokens, toldTokens } = reply
  const say = (what: string) => `${visit.number} ${requestId} ${status}: ${what}`
  if (reply.isForeign) return say(`another's reply: ${JSON.stringify(reply.text)}`)
  if (reply.misplaced > 0) return say(`${reply.misplaced} chunks out of their place`)
  if (reply.hasLeft) return null
  if (errorCode !== null || !reply.isWhole) {
    return say(`${errorCode} after ${tokens} tokens (${errorMessage})`)
  }
  // What is there is how the answer begins: with as many tokens as are due it is the answer.
  if (tokens !== visit.completionTokens || toldTokens !== tokens) {
    return say(`${tokens} tokens came, ${toldTokens} were told, ${visit.completionTokens} are due`)
  }
  return null
}

function emptyReply(visit: Visit): Reply {
  return {
    visit,
    requestId: null,
    status: null,
    errorCode: null,
    errorMessage: null,
    retryAfter: null,
    text: '',
    tokens: 0,
    toldTokens: null,
    isWhole: false,
    isForeign: false,
    offset: 0,
    misplaced: 0,
    hasLeft: false,
    startMs: performance.now(),
    firstTokenMs: null,
    lastTokenMs: null,
    endMs: Number.NaN,
  }
}

function toBody({ question, completionTokens, isStream }: Visit): string {
  return JSON.stringify({
    prompt: question.prompt,
    max_tokens: completionTokens,
    temperature: 0,
    ignore_eos: true,
    logprobs: 0,
    stream: isStream,
    ...(isStream && { stream_options: { include_usage: true } }),
  })
}

function goAway(post: ClientRequest, reply: Reply): void {
  if (!reply.isWhole) reply.hasLeft = true
  post.destroy()
}

function noteBreak(reply: Reply): void {
  if (!reply.hasLeft && !reply.isWhole) reply.errorCode ??= 'socket'
}

function takeReply(response: IncomingMessage, post: ClientRequest, reply: Reply): void {
  const { leave, isStream } = reply.visit
  reply.requestId = z.string().parse(response.headers['x-request-id'])
  reply.status = response.statusCode ?? null
  reply.retryAfter = response.headers['retry-after'] ?? null
  response.on('error', () => noteBreak(reply))
  response.on('end', () => {
    if (!response.complete) noteBreak(reply)
  })
  if (leave?.at === 'headers') {
    goAway(post, reply)
    return
  }
  response.setEncoding('utf8')
  let text = ''
  const isEvents = isStream && reply.status === 200
  response.on('data', (piece: string) => {
    text += piece
    if (!isEvents) return
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const data = /^data: (.*)$/s.exec(text.slice(0, end))?.[1]
      text = text.slice(end + 2)
      if (data !== undefined && !reply.hasLeft) takeEvent(data, post, reply)
    }
  })
  response.on('end', () => {
    if (isEvents || !response.complete) return
    takeFrame(text, reply)
    reply.isWhole = reply.errorCode === null
  })
}

function takeEvent(data: string, post: ClientRequest, reply: Reply): void {
  const { leave } = reply.visit
  if (data !== '[DONE]') {
    takeFrame(data, reply)
    if (leave?.at === 'token' && reply.tokens >= leave.nth) goAway(post, reply)
    return
  }
  reply.isWhole = reply.errorCode === null
  if (leave?.at === 'done') goAway(post, reply)
}

function takeFrame(json: string, reply: Reply): void {
  const { visit } = reply
  const { id, choices, usage, error } = frame.parse(JSON.parse(json))
  if (error !== undefined) {
    reply.errorCode = error.code ?? 'unnamed'
    reply.errorMessage = error.message
  }
  const ownId = `cmpl-${reply.requestId?.slice('req_'.length)}`
  if (id !== undefined && id !== ownId) reply.isForeign = true
  reply.toldTokens = usage?.completion_tokens ?? reply.toldTokens
  for (const { text, logprobs } of choices) {
    const tokens = logprobs?.tokens ?? []
    reply.text += text
    if (tokens.length === 0) continue
    // The edge counts characters: each chunk begins where the one before it ended.
    if (logprobs?.text_offset[0] !== reply.offset) reply.misplaced += 1
    for (const token of tokens) reply.offset += token.length
    reply.tokens += tokens.length
    reply.lastTokenMs = performance.now()
    reply.firstTokenMs ??= reply.lastTokenMs
  }
  if (!visit.question.text.startsWith(reply.text)) reply.isForeign = true
}
