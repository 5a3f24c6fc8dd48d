/**
 * What a pool on vLLM promises, each tried from outside; resolves to what was seen, throws where it
 * is not kept. In order: later ones use what earlier ones made.
 */
import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict'
import { join } from 'node:path'
import OpenAI from 'openai'
import { z } from 'zod'
import { readJournal, readLedger, type UsageRow, untilSettled } from '../../test/support/books.ts'
import {
  ask,
  askStreaming,
  chatBody,
  type Question,
  type Reply,
  requireStream,
} from '../../test/support/inference.ts'
import type { Pool } from '../../test/support/pool.ts'
import { until } from '../../test/support/until.ts'
import { leaveAfter } from './leaving-client.ts'
import type { VllmServer } from './vllm-server.ts'

export interface Stage {
  readonly server: VllmServer
  /** Replaced by a promise that starts it anew. */
  pool: Pool
  readonly startAgain: () => Promise<Pool>
  /** Holds `base` and `adapter-0` …, PEFT folders. */
  readonly adaptersDirectory: string
  readonly adapterCount: number
  readonly maxCpuLoras: number
  /** What transformers says that base and adapters answer to it, greedily. */
  readonly prompt: string
  readonly answers: Readonly<
    Record<string, { readonly tokens: readonly number[]; readonly text: string }>
  >
  /** Tenant → API key. */
  readonly keys: Map<string, string>
}

type Attempt = (stage: Stage) => Promise<string>

/** Tenant of each adapter: three tenants, of which the first has what is left. */
const tenantOf = (index: number): string => `tenant-${index < 3 ? index : 0}`
const SYSTEM_TURN = 'user: '
const LONG_TOKENS = 400

export const PROMISES: Readonly<Record<string, Attempt>> = {
  'deploy: PEFT folders become versions of three tenants': async (stage) => {
    for (const tenant of ['tenant-0', 'tenant-1', 'tenant-2']) {
      await cli(stage, 'tenant', 'create', tenant)
      const created = await cli(stage, 'key', 'create', '--tenant', tenant, '--json')
      const { key } = z.object({ key: z.string() }).parse(JSON.parse(created))
      stage.keys.set(tenant, key)
    }
    for (let index = 0; index < stage.adapterCount; index += 1) {
      const folder = join(stage.adaptersDirectory, nameOf(index))
      const tenant = tenantOf(index)
      await cli(stage, 'deploy', folder, '--model', nameOf(index), '--tenant', tenant)
    }
    return `${stage.adapterCount} models`
  },

  'chat: base and adapters answer as transformers does': async (stage) => {
    const base = await ask(chatQuestion(stage, 'tenant-0', null))
    sameAnswer(stage, 'base', base)
    for (const index of [0, 1, 2]) {
      sameAnswer(stage, nameOf(index), await ask(chatQuestion(stage, tenantOf(index), index)))
    }
    return 'four answers, token for token'
  },

  'text and stream: the same, in pieces that sum to the bill': async (stage) => {
    const { key, body } = textBody(stage, 0)
    const reply = await askStreaming({ ...endpoint(stage), apiKey: key, kind: 'text', body })
    sameAnswer(stage, nameOf(0), reply)
    return `${reply.usage?.completion_tokens} tokens`
  },

  'three tenants at once: each gets its own adapter’s answers': async (stage) => {
    const questions = Array.from({ length: 24 }, (_, number) => number % 3)
    const replies = await Promise.all(
      questions.map((index) => ask(chatQuestion(stage, tenantOf(index), index))),
    )
    for (const [number, reply] of replies.entries()) {
      sameAnswer(stage, nameOf(questions[number] ?? 0), reply)
    }
    return `${replies.length} answers, no one another’s`
  },

  'eviction: never more adapters than the server may hold, every answer right': async (stage) => {
    let most = 0
    for (let round = 0; round < 3; round += 1) {
      for (let index = 0; index < stage.adapterCount; index += 1) {
        sameAnswer(stage, nameOf(index), await ask(chatQuestion(stage, tenantOf(index), index)))
        most = Math.max(most, (await stage.server.adapters()).length)
      }
    }
    ok(most <= stage.maxCpuLoras, `${most} adapters were registered`)
    return `${stage.adapterCount} adapters in turn, at most ${most} registered`
  },

  'another tenant’s model is not found': async (stage) => {
    const reply = await ask({ ...chatQuestion(stage, 'tenant-1', 0) })
    strictEqual(reply.status, 404)
    return `404 ${reply.error?.code}`
  },

  'sampling fields: seeds, stop strings, log probabilities, choices, schemas': async (stage) => {
    const question = chatQuestion(stage, 'tenant-0', 0)
    const withMore = (more: object): Question => ({
      ...question,
      body: { ...question.body, ...more },
    })
    const seeded = { temperature: 1, seed: 7, max_tokens: 16 }
    const [first, second] = [await ask(withMore(seeded)), await ask(withMore(seeded))]
    strictEqual(first.text, second.text)
    const full = stage.answers[nameOf(0)]?.text ?? ''
    const stop = full.slice(10, 14)
    const stopped = await askStreaming(withMore({ stop: [stop] }))
    strictEqual(stopped.text, full.slice(0, full.indexOf(stop)))
    const told = await ask(withMore({ logprobs: true, top_logprobs: 2, max_tokens: 5 }))
    strictEqual(told.logprobs.map(({ token }) => token).join(''), told.text)
    ok(told.logprobs.every(({ top_logprobs }) => top_logprobs.length === 2))
    const schema = {
      type: 'object',
      properties: { kind: { enum: ['river', 'sea'] } },
      required: ['kind'],
      additionalProperties: false,
    }
    const json_schema = { name: 'water', schema, strict: true }
    const response_format = { type: 'json_schema', json_schema }
    const water = await ask(withMore({ response_format, max_tokens: 60 }))
    ok(['river', 'sea'].includes(z.object({ kind: z.string() }).parse(JSON.parse(water.text)).kind))
    const kind = JSON.stringify(JSON.parse(water.text))
    return `stop after ${stopped.text.length} characters, schema gave ${kind}`
  },

  'tools: shown to the model, called under their schema, their results told': async (stage) => {
    const { baseUrl, apiKey } = chatQuestion(stage, 'tenant-0', 0)
    const { chat } = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0 })
    const kinds = ['river', 'sea']
    const parameters = {
      type: 'object',
      properties: { kind: { enum: kinds } },
      required: ['kind'],
      additionalProperties: false,
    }
    const named = { name: 'swim', description: 'Swims.', parameters, strict: true }
    const messages = [{ role: 'user' as const, content: 'tell me of rivers' }]
    const asked = { model: nameOf(0), messages, max_tokens: 80, temperature: 0 }
    const offered = { ...asked, tools: [{ type: 'function' as const, function: named }] }
    const forced = { ...offered, tool_choice: 'required', parallel_tool_calls: false } as const
    const whole = await chat.completions.create(forced)
    const streamed = await chat.completions.stream(forced).finalChatCompletion()
    const [choice] = whole.choices
    strictEqual(choice?.finish_reason, 'tool_calls')
    // No mark of an end either, though special tokens are shown.
    strictEqual(choice.message.content, null)
    const [call] = choice.message.tool_calls ?? []
    ok(call?.type === 'function' && kinds.includes(JSON.parse(call.function.arguments).kind))
    const [other] = streamed.choices[0]?.message.tool_calls ?? []
    strictEqual(other?.type === 'function' && other.function.arguments, call.function.arguments)
    const result = { role: 'tool' as const, tool_call_id: call.id, content: 'wet' }
    const told = await chat.completions.create({
      ...{ ...offered, max_tokens: 8 },
      messages: [...messages, choice.message, result],
    })
    ok((told.usage?.prompt_tokens ?? 0) > (whole.usage?.prompt_tokens ?? 0))
    const plain = await chat.completions.create({ ...asked, max_tokens: 8 })
    ok((whole.usage?.prompt_tokens ?? 0) > (plain.usage?.prompt_tokens ?? 0))
    return `${call.function.name} ${call.function.arguments.replaceAll(/\s/g, '')}`
  },

  'a client that leaves pays for what it got': async (stage) => {
    const question = chatQuestion(stage, 'tenant-1', 1)
    const more = { max_tokens: LONG_TOKENS, temperature: 1, seed: 3 }
    const left = await leaveAfter({ ...question, body: { ...question.body, ...more } }, 5)
    const got = left.tokens
    const row = await billOf(stage, 'tenant-1', left.requestId)
    strictEqual(row.finish, 'abort')
    ok(row.completionTokens >= got, `billed ${row.completionTokens}, received ${got}`)
    ok(row.completionTokens <= got + 1, `billed ${row.completionTokens}, received ${got}`)
    return `received ${got}, billed ${row.completionTokens}`
  },

  'kill -9 of vLLM under a stream: told, billed as received, served again': async (stage) => {
    const question = chatQuestion(stage, 'tenant-2', 2)
    // Log probabilities let the client count its tokens.
    const more = { max_tokens: LONG_TOKENS, logprobs: true, temperature: 1, seed: 5 }
    const stream = await requireStream({ ...question, body: { ...question.body, ...more } })
    await stream.tokens(5)
    await stage.server.kill()
    const reply = await stream.reply
    ok(reply.error !== null, 'the stream ended without an error')
    const row = await billOf(stage, 'tenant-2', stream.requestId)
    strictEqual(row.completionTokens, reply.logprobs.length)
    const refused = await ask(question)
    ok(refused.status >= 500, `${refused.status} while the server is away`)
    await stage.server.start()
    await until('the host serves again', async () => {
      const again = await ask(question)
      return again.status === 200 ? again : null
    }).then((again) => sameAnswer(stage, nameOf(2), again))
    return `${reply.error.code} after ${reply.logprobs.length} tokens, all billed; then 200`
  },

  'drain: a stream that runs is finished, then the pool is gone': async (stage) => {
    const question = chatQuestion(stage, 'tenant-0', 0)
    const more = { max_tokens: 200, logprobs: true, temperature: 1, seed: 11 }
    const stream = await requireStream({ ...question, body: { ...question.body, ...more } })
    await stream.tokens(3)
    const [reply, exitCode] = await Promise.all([stream.reply, stage.pool.stop()])
    strictEqual(exitCode, 0)
    strictEqual(reply.error, null)
    ok(reply.finish !== null)
    stage.pool = await stage.startAgain()
    // Where the new one listens.
    sameAnswer(stage, nameOf(0), await ask(chatQuestion(stage, 'tenant-0', 0)))
    return `${reply.usage?.completion_tokens} tokens to the end, exit code 0, serves after a start`
  },

  'the books: journal and ledger agree in every field': async (stage) => {
    await untilSettled(stage.pool)
    const report = await cli(stage, 'reconcile', '--json')
    const [journal, ledger] = [await readJournal(stage.pool), await ledgerOf(stage)]
    const ids = (rows: readonly UsageRow[]): string[] =>
      rows.map(({ requestId }) => requestId).sort()
    deepStrictEqual(ids(journal.filter(({ tenant }) => stage.keys.has(tenant))), ids(ledger))
    const { differences } = z
      .object({ differences: z.array(z.unknown()) })
      .parse(JSON.parse(report))
    strictEqual(differences.length, 0)
    return `${journal.length} usage events, no difference`
  },
}

function nameOf(index: number): string {
  return `adapter-${index}`
}

function endpoint(stage: Stage): { readonly baseUrl: string } {
  return { baseUrl: `${stage.pool.edgeUrl}/v1` }
}

function keyOf(stage: Stage, tenant: string): string {
  const key = stage.keys.get(tenant)
  if (key === undefined) throw new Error(`no key of ${tenant}`)
  return key
}

/** `index` null = the base alone. The template makes the references' prompt of it. */
function chatQuestion(stage: Stage, tenant: string, index: number | null): Question {
  const content = stage.prompt.slice(SYSTEM_TURN.length, stage.prompt.indexOf('\n'))
  const model = index === null ? stage.pool.ready.base_model : nameOf(index)
  const body = { model, ...chatBody(content, tokensOf(stage, index)) }
  return { ...endpoint(stage), apiKey: keyOf(stage, tenant), body }
}

function textBody(stage: Stage, index: number) {
  const body = {
    model: nameOf(index),
    prompt: stage.prompt,
    max_tokens: tokensOf(stage, index),
    temperature: 0,
  }
  return { key: keyOf(stage, tenantOf(index)), body }
}

function answerOf(stage: Stage, name: string) {
  const answer = stage.answers[name]
  if (answer === undefined) throw new Error(`no reference of ${name}`)
  return answer
}

function tokensOf(stage: Stage, index: number | null): number {
  return answerOf(stage, index === null ? 'base' : nameOf(index)).tokens.length
}

function sameAnswer(stage: Stage, name: string, reply: Reply): void {
  strictEqual(reply.error, null)
  const { text, tokens } = answerOf(stage, name)
  strictEqual(reply.text, text)
  strictEqual(reply.usage?.completion_tokens, tokens.length)
}

async function cli({ pool }: Stage, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await pool.nozzle(...args)
  if (exitCode !== 0) throw new Error(`nozzle ${args.join(' ')}: ${exitCode}\n${stderr}`)
  return stdout
}

async function ledgerOf(stage: Stage): Promise<UsageRow[]> {
  return readLedger(stage.pool, [...stage.keys.keys()])
}

async function billOf(stage: Stage, tenant: string, requestId: string): Promise<UsageRow> {
  return until(`the bill of ${requestId}`, async () => {
    const rows = await readLedger(stage.pool, [tenant])
    return rows.find((row) => row.requestId === requestId) ?? null
  })
}
