/**
 * Requests of every kind that clients make, and what each of them saw: whole replies, streams,
 * clients that leave in the middle, and requests that must be refused.
 */

import { ask, askStreaming, type ClientUsage, type Question, requireStream } from './inference.ts'
import type { Pool } from './pool.ts'

/** A model, as one tenant asks it. */
export interface Target {
  readonly tenant: string
  readonly apiKey: string
  /** Name in usage. */
  readonly model: string
  /** Name in requests to the shared endpoint. */
  readonly wireModel: string
}

export const REQUEST_KINDS = ['whole', 'text', 'streamed', 'left', 'refused'] as const
export type RequestKind = (typeof REQUEST_KINDS)[number]

/** What one client saw. `usage` is null unless the request was finished for it. */
export interface Outcome {
  readonly kind: RequestKind
  readonly tenant: string
  readonly model: string
  readonly requestId: string
  readonly status: number
  readonly code: string | null
  readonly usage: ClientUsage | null
  /** Tokens that arrived one by one; null where they were not counted. */
  readonly tokensSeen: number | null
}

const PROMPTS = [
  'My last invoice is wrong.',
  'How many orders are open?',
  'Call Ann Lee at 555-0100.',
  'Say hello.',
]

export function promptOf(index: number): string {
  return PROMPTS[index % PROMPTS.length] ?? ''
}

export function questionOf(pool: Pool, target: Target, body: object): Question {
  const { apiKey, wireModel } = target
  return { baseUrl: pool.ready.base_url, apiKey, body: { model: wireModel, ...body } }
}

export function chatOf(
  index: number,
  maxTokens: number,
  more: object = {},
): Record<string, unknown> {
  return {
    messages: [{ role: 'user', content: promptOf(index) }],
    max_tokens: maxTokens,
    seed: index,
    ...more,
  }
}

/** Each must be refused before it costs anything. */
const REFUSALS: readonly ((question: Question) => Question)[] = [
  (question) => ({ ...question, body: { ...question.body, model: 'demo/no-such-model' } }),
  (question) => ({ ...question, body: { ...question.body, temperature: 5 } }),
  (question) => ({ ...question, body: { ...question.body, max_tokens: 0 } }),
  (question) => ({ ...question, body: { ...question.body, n: 17 } }),
  (question) => ({ ...question, body: { ...question.body, stream: true, stop: [''] } }),
  (question) => ({ ...question, body: { ...question.body, messages: [] } }),
  (question) => ({ ...question, body: { ...question.body, grammar: 'root ::= "a' } }),
  (question) => ({ ...question, apiKey: `${question.apiKey.slice(0, -1)}!` }),
  (question) => {
    const messages = [{ role: 'user', content: 'too long '.repeat(3000) }]
    return { ...question, body: { ...question.body, messages } }
  },
]

export async function runRequest(
  pool: Pool,
  target: Target,
  kind: RequestKind,
  index: number,
): Promise<Outcome> {
  const question = questionOf(pool, target, chatOf(index, 2 + (index % 4)))
  const facts = { kind, tenant: target.tenant, model: target.model }
  switch (kind) {
    case 'whole':
    case 'streamed': {
      const reply = await (kind === 'whole' ? ask : askStreaming)(question)
      return { ...facts, ...toSeen(reply) }
    }
    case 'text': {
      const body = { prompt: promptOf(index), max_tokens: 3, seed: index }
      const reply = await ask({ ...questionOf(pool, target, body), kind })
      return { ...facts, ...toSeen(reply) }
    }
    case 'left': {
      const stream = await requireStream(
        questionOf(pool, target, chatOf(index, 400, { ignore_eos: true, logprobs: true })),
      )
      await stream.tokens(1 + (index % 3))
      stream.leave()
      const reply = await stream.reply
      return { ...facts, ...toSeen(reply), tokensSeen: reply.logprobs.length }
    }
    case 'refused': {
      const change = REFUSALS[index % REFUSALS.length] ?? ((same: Question) => same)
      return { ...facts, ...toSeen(await ask(change(question))) }
    }
  }
}

export interface Plan {
  readonly target: Target
  readonly kind: RequestKind
  readonly index: number
}

/** So many at a time; rejects with the first that breaks. */
export async function runPlan(
  pool: Pool,
  plan: readonly Plan[],
  concurrency: number,
): Promise<Outcome[]> {
  const waiting = [...plan]
  const outcomes: Outcome[] = []
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      outcomes.push(await runRequest(pool, next.target, next.kind, next.index))
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return outcomes
}

function toSeen(reply: Awaited<ReturnType<typeof ask>>) {
  const { requestId, status, usage } = reply
  return { requestId, status, usage, code: reply.error?.code ?? null, tokensSeen: null }
}
