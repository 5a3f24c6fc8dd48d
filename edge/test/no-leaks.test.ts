/**
 * No prompt, no completion and no key is in what an edge and a host write down: logs, spans and
 * metrics. Marked text goes through both, in requests that succeed and in every broken kind.
 */
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createApiKey } from '../auth/api-key.ts'
import { errorText } from '../errors.ts'
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool, until } from './support/test-pool.ts'

/** In what is sent, wherever a client could put text or a secret. */
const CANARY = 'canary5417'
/** Long enough to be no coincidence. */
const COMPLETION_TOKENS = 24

let pool: TestPool
let receiver: OtlpReceiver
let tenant: TestTenant
const hostLogs: unknown[] = []
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
  const log = (...line: unknown[]): unknown => hostLogs.push(line)
  await pool.addHost({ environment, log })
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
})

afterAll(async () => {
  await pool.stop()
  await receiver.close()
})

function ask(
  body: string | object,
  { path = '/v1/chat/completions', key = tenant.key, headers = {} } = {},
): Promise<Response> {
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

async function written(): Promise<string> {
  const metrics = [pool.url, pool.hosts[0]?.host.url].map(async (url) =>
    (await fetch(`${url}/metrics`)).text(),
  )
  return JSON.stringify([pool.logs, hostLogs, receiver.bodies, await Promise.all(metrics)])
}

async function completionOf(response: Response): Promise<string> {
  const { choices } = (await response.json()) as { choices: [{ message: { content: string } }] }
  return choices[0].message.content
}

it('writes down nothing that a client said, was told or proved itself with', async () => {
  const completion = await completionOf(await ask(chat()))
  expect(completion.length).toBe(COMPLETION_TOKENS)
  await (await ask(chat({ stream: true }), { headers: { 'idempotency-key': CANARY } })).text()
  await (await ask({ model: 'support', prompt: CANARY }, { path: '/v1/completions' })).text()

  const unknownKey = await createApiKey()
  const broken = [
    ask(`{"model": "support", "messages": ${CANARY}`),
    ask(`${CANARY} is no JSON`),
    ask(chat({ messages: CANARY })),
    ask(chat({ messages: [{ role: CANARY, content: CANARY }] })),
    ask(chat({ response_format: { type: CANARY } })),
    ask(chat({ temperature: CANARY })),
    ask(chat({ messages: [{ role: 'user', content: CANARY.repeat(2000) }] })),
    ask(chat(), { key: `nz_${CANARY}` }),
    ask(chat(), { key: unknownKey }),
    ask(chat(), { path: `/v1/chat/completions?prompt=${CANARY}&key=${tenant.key}`, key: CANARY }),
  ]
  for (const response of await Promise.all(broken)) {
    expect(response.status).toBeGreaterThanOrEqual(400)
    expect(response.status).toBeLessThan(500)
  }
  for (const words of [`data: ${CANARY}\n\n`, `data: {"type":"${CANARY}"}\n\n`, CANARY]) {
    garbled = words
    expect((await ask(chat())).status).toBeGreaterThanOrEqual(500)
    await (await ask(chat({ stream: true }))).text()
  }
  garbled = null

  // Everything has been told of, so that what is looked through is not half of it.
  await until(() => {
    expect(receiver.faults).toEqual([])
    const made = pool.logs.filter(({ fields }) => String(fields.path).includes('completions'))
    const said = receiver.spans.filter(({ name }) => name.endsWith('completions'))
    expect(said.length).toBe(made.length)
    expect(hostLogs.length).toBeGreaterThanOrEqual(3)
  })
  const text = await written()
  const secrets = [
    ...[CANARY, tenant.key, unknownKey, pool.operatorKey].map((secret) => secret.slice(0, 200)),
    JSON.stringify(completion).slice(1, -1),
    JSON.stringify(JSON.stringify(completion).slice(1, -1)).slice(1, -1),
  ]
  for (const secret of secrets) expect(text.includes(secret), secret).toBe(false)
  // What a key is known by is no secret, and has to be there.
  expect(text).toContain(tenant.keyId)
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
