/**
 * No prompt, no completion and no key is in what an edge and a host write down: logs, spans,
 * metrics, replies to errors, the database, and the host's disk. Marked text goes through both, in
 * requests that succeed and in every broken kind; `npm run soak -- --security` sends 10,000.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { reportRun, sized } from '../../gpu-host/test/support/soak-run.ts'
import { formatLogLine } from '../../gpu-host/wire/log-line.ts'
import { createApiKey } from '../auth/api-key.ts'
import { errorText } from '../errors.ts'
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool, until } from './support/test-pool.ts'

const REQUESTS = sized(66, 10_000)
const AT_ONCE = 16
const TIMEOUT_MS = sized(120_000, 3_600_000)
/** In what is sent, wherever a client could put text or a secret. */
const CANARY = 'canary5417'
/** What would begin a line, colour it, or turn it around, in a log that took it as it is. */
const NAME = 'forged5417'
const FORGED = `${NAME}\r\n{"level":"error"}\u001b[31m\u009b2J\u2028\u202e`
/** Long enough to be no coincidence. */
const COMPLETION_TOKENS = 24
/** Requests whose answer is kept a day: whoever sends it again gets it again. */
const KEPT = { table: 'idempotency_keys', column: 'reply_body' }

let pool: TestPool
let receiver: OtlpReceiver
let tenant: TestTenant
let unknownKey = ''
let hostDirectory = ''
const hostLogs: unknown[] = []
const completions: string[] = []
/** What a host answers in place of its own words; null = its own. */
let garbled: string | null = null

beforeAll(async () => {
  receiver = await startOtlpReceiver()
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }
  pool = await TestPool.start({
    environment,
    fetch: (input, init) => {
      if (garbled === null || !String(input).endsWith('/generate')) return fetch(input, init)
      return Promise.resolve(new Response(garbled))
    },
  })
  const log = (level: string, message: string, fields: object = {}): void => {
    hostLogs.push({ level, message, ...fields })
  }
  const host = await pool.addHost({ environment, log })
  hostDirectory = join(host.journalDirectory, '..')
  tenant = await pool.addTenant()
  unknownKey = await createApiKey()
  await pool.deploy(tenant, 'support', 'weights')
})

afterAll(async () => {
  await pool.stop()
  await receiver.close()
})

interface Way {
  readonly path?: string
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
}

function ask(body: string | object, way: Way = {}): Promise<Response> {
  const { path = '/v1/chat/completions', key = tenant.key, headers = {} } = way
  return fetch(pool.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

const chat = (change: object = {}): object => ({
  model: 'support',
  messages: [{ role: 'user', content: `tell me about ${CANARY}` }],
  max_tokens: COMPLETION_TOKENS,
  stop: [CANARY],
  user: CANARY,
  ...change,
})

const tool = { type: 'function', function: { name: CANARY, description: CANARY } }

/** Of a conversation with a tool, whose calls are these. */
const called = (call: object): object => ({
  messages: [{ role: 'assistant', tool_calls: [{ id: CANARY, type: 'function', ...call }] }],
})

const wholeReply = z.object({
  choices: z.tuple([z.object({ message: z.object({ content: z.string() }) })]),
})

/** One request each, all the way to its end; `i` sets it apart from the others of its kind. */
const KINDS: Readonly<Record<string, (i: number) => Promise<Response>>> = {
  async served() {
    const response = await ask(chat())
    const { choices } = wholeReply.parse(await response.clone().json())
    completions.push(choices[0].message.content)
    return response
  },
  streamed: (i) => ask(chat({ stream: true }), { headers: { 'idempotency-key': `again-${i}` } }),
  completed: () => ask({ model: 'support', prompt: CANARY }, { path: '/v1/completions' }),
  echoedHeaders: () =>
    ask(chat({ max_tokens: 1 }), {
      headers: {
        'x-request-id': CANARY,
        'user-agent': `${CANARY} \u0009 ${CANARY}`,
        'x-forwarded-for': CANARY,
        traceparent: CANARY,
        tracestate: `${CANARY}=${CANARY}`,
        baggage: `prompt=${CANARY}`,
        'openai-organization': CANARY,
        cookie: `nozzle_session=${CANARY}`,
        referer: `http://x.test/${CANARY}`,
      },
    }),
  noJson: () => ask(`{"model": "support", "messages": ${CANARY}`),
  noObject: () => ask(`${CANARY} is no JSON`),
  wrongMessages: () => ask(chat({ messages: CANARY })),
  wrongRole: () => ask(chat({ messages: [{ role: CANARY, content: CANARY }] })),
  wrongFormat: () => ask(chat({ response_format: { type: CANARY } })),
  wrongNumber: () => ask(chat({ temperature: CANARY })),
  wrongSchema: () =>
    ask(
      chat({
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'a', schema: { type: 'string', pattern: `(${CANARY}` } },
        },
      }),
    ),
  offeredTools: () => ask(chat({ tools: [tool] })),
  sameTools: () => ask(chat({ tools: [tool, tool] })),
  wrongTools: () => ask(chat({ tools: CANARY })),
  wrongChoice: () =>
    ask(chat({ tools: [{ ...tool, function: { name: 'f' } }], tool_choice: tool })),
  madeCall: () => ask(chat(called({ function: { name: CANARY, arguments: `{"a":"${CANARY}"}` } }))),
  wrongCall: () => ask(chat(called({ function: { name: CANARY, arguments: `{${CANARY}` } }))),
  strayResult: () =>
    ask(chat({ messages: [{ role: 'tool', content: CANARY, tool_call_id: CANARY }] })),
  tooLong: () => ask(chat({ messages: [{ role: 'user', content: CANARY.repeat(2000) }] })),
  tooDeep: () => ask(`{"model":"support","messages":${'['.repeat(500)}"${CANARY}"`),
  noKey: () => ask(chat(), { key: `nz_${CANARY}` }),
  unknownKey: () => ask(chat(), { key: unknownKey }),
  keyInQuery: () =>
    ask(chat(), { path: `/v1/chat/completions?prompt=${CANARY}&key=${tenant.key}`, key: CANARY }),
  unknownModel: () => ask(chat({ model: `tenant/${FORGED}` })),
  noRoute: () => ask(chat(), { path: '/v1/none' }),
  garbledFrame: () => withHostSaying(`data: ${CANARY}\n\n`, chat()),
  garbledEvent: () => withHostSaying(`data: {"type":"${CANARY}"}\n\n`, chat()),
  garbledReply: () => withHostSaying(CANARY, chat({ stream: true })),
  left: async () => {
    const leaving = new AbortController()
    const response = await fetch(`${pool.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}` },
      body: JSON.stringify(chat({ stream: true, max_tokens: 200 })),
      signal: leaving.signal,
    })
    await response.body?.getReader().read()
    leaving.abort()
    return new Response('')
  },
}

/** One at a time, since all requests of the moment would hear it. */
async function withHostSaying(words: string, body: object): Promise<Response> {
  garbled = words
  try {
    const response = await ask(body)
    return new Response(await response.text(), response)
  } finally {
    garbled = null
  }
}

const isAlone = (kind: string): boolean => kind.startsWith('garbled')

/** What errors told the client, beside what it was told on purpose: its own answers. */
const refusals: string[] = []

async function sendAll(): Promise<Record<string, number>> {
  const sent: Record<string, number> = {}
  const names = Object.keys(KINDS)
  const wanted = Array.from({ length: REQUESTS }, (_, i) => ({
    i,
    kind: names[i % names.length] ?? '',
  }))
  const send = async ({ i, kind }: { i: number; kind: string }): Promise<void> => {
    const response = await KINDS[kind]?.(i)
    const text = (await response?.text()) ?? ''
    sent[kind] = (sent[kind] ?? 0) + 1
    if ((response?.status ?? 0) >= 400) refusals.push(text)
  }
  for (const one of wanted.filter(({ kind }) => isAlone(kind))) await send(one)
  const together = wanted.filter(({ kind }) => !isAlone(kind))
  const workers = Array.from({ length: AT_ONCE }, async () => {
    for (let next = together.pop(); next !== undefined; next = together.pop()) await send(next)
  })
  await Promise.all(workers)
  return sent
}

async function metrics(): Promise<string[]> {
  const urls = [pool.url, pool.hosts[0]?.host.url]
  return Promise.all(urls.map(async (url) => (await fetch(`${url}/metrics`)).text()))
}

/** Every row of every table, and the replies that are kept on purpose apart. */
async function database(): Promise<{ rows: string; kept: string }> {
  const { db } = pool.database
  const tables = await db.execute(
    sql`select tablename as name from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`,
  )
  const dumped: string[] = []
  const kept: string[] = []
  for (const { name } of z.array(z.object({ name: z.string() })).parse(tables.rows)) {
    if (name.startsWith('__drizzle')) continue
    const { rows } = await db.execute(sql`select * from ${sql.identifier(name)}`)
    for (const row of rows) {
      const copy: Record<string, unknown> = { ...row }
      if (name === KEPT.table) {
        kept.push(String(copy[KEPT.column]))
        delete copy[KEPT.column]
      }
      dumped.push(
        JSON.stringify(copy, (_key, value) => (typeof value === 'bigint' ? String(value) : value)),
      )
    }
  }
  return { rows: dumped.join('\n'), kept: kept.join('\n') }
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
}

/** As they are, and as they would stand in JSON, once and twice. */
function shapesOf(secret: string): string[] {
  const once = JSON.stringify(secret).slice(1, -1)
  return [secret, once, JSON.stringify(once).slice(1, -1)]
}

describe('edge and host', () => {
  it(
    'write down nothing that a client said, was told or proved itself with',
    async () => {
      const sent = await sendAll()
      expect(Object.keys(sent).sort()).toEqual(Object.keys(KINDS).sort())
      // Everything has been told of, so that what is looked through is not half of it.
      await until(() => {
        expect(receiver.faults).toEqual([])
        const made = pool.logs.filter(({ fields }) => String(fields.path).includes('completions'))
        const said = receiver.spans.filter(({ name }) => name.endsWith('completions'))
        expect(said.length).toBe(made.length)
        expect(hostLogs.length).toBeGreaterThanOrEqual((sent.served ?? 0) + (sent.streamed ?? 0))
      })
      expect(completions.every((text) => text.length === COMPLETION_TOKENS)).toBe(true)
      const { rows, kept } = await database()
      const places: Readonly<Record<string, string>> = {
        'log of the edge': JSON.stringify(pool.logs),
        'log of the host': JSON.stringify(hostLogs),
        spans: JSON.stringify(receiver.bodies),
        metrics: JSON.stringify(await metrics()),
        database: rows,
        'disk of the host': filesBelow(hostDirectory).join('\n'),
      }
      const secrets = [CANARY, tenant.key, unknownKey, pool.operatorKey, ...new Set(completions)]
      for (const [place, text] of Object.entries(places)) {
        expect(text.length, place).toBeGreaterThan(500)
        // The name of a model that there is not tells an operator who asked for what.
        const named = place === 'log of the edge' ? [] : [NAME]
        const found = [...secrets, ...named].filter((secret) =>
          shapesOf(secret).some((one) => text.includes(one)),
        )
        expect(found, place).toEqual([])
      }
      // What a key is known by is no secret, and has to be there.
      expect(places['log of the edge']).toContain(tenant.keyId)
      // A reply under an idempotency key is kept, which a canary in a prompt must not be.
      expect(kept.length).toBeGreaterThan(COMPLETION_TOKENS)
      for (const secret of [CANARY, tenant.key]) expect(kept).not.toContain(secret)
      reportRun('no-leaks', { requests: REQUESTS, kinds: sent, canaries_found: 0 })
    },
    TIMEOUT_MS,
  )

  it('tell no client of a key, nor of what others would take for it', () => {
    expect(refusals.length).toBeGreaterThan(REQUESTS / 3)
    for (const text of refusals) {
      for (const secret of [tenant.key, unknownKey, pool.operatorKey, 'tell me about']) {
        expect(text).not.toContain(secret)
      }
    }
  })

  it('write lines that nobody can forge: one each, of printable signs, that read as they were', () => {
    const records = [
      ...pool.logs.map(({ message, fields }) => ({ message, ...fields })),
      ...hostLogs,
    ]
    expect(records.length).toBeGreaterThan(REQUESTS / 2)
    for (const record of [...records, { message: FORGED, path: FORGED }]) {
      const line = formatLogLine(record as object)
      expect(line).toMatch(/^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+$/u)
      expect(JSON.parse(line)).toEqual(JSON.parse(JSON.stringify(record)))
    }
  })
})

it('names a failed statement without what it was given', async () => {
  const statement = sql`select * from nowhere where reply = ${CANARY}`
  const error: unknown = await pool.database.db
    .execute(statement)
    .catch((thrown: unknown) => thrown)
  expect(String(error)).toContain(CANARY)
  expect(errorText(error)).toMatch(/^Failed query: select \* from nowhere.*does not exist$/)
  expect(errorText(error)).not.toContain(CANARY)
})
