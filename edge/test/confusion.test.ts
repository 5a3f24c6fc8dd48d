/**
 * What a client makes up cannot stand for what is another's: names that look like another tenant's
 * model, request ids that are used again, headers that hosts go by.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { createRandom } from '../../gpu-host/test/support/random.ts'
import { reportRun, SEED, sized } from '../../gpu-host/test/support/soak-run.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, TestPool } from './support/test-pool.ts'

const NAMES = sized(500, 5000)
const AT_ONCE = 50
const TOKENS = 6
const reply = z.object({
  id: z.string(),
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })),
})

let pool: TestPool
let victim: TestTenant
let stranger: TestTenant
/** Headers of every call to a host. */
const sent: Headers[] = []

beforeAll(async () => {
  pool = await TestPool.start({
    fetch: (input, init) => {
      sent.push(new Headers(init?.headers))
      return fetch(input, init)
    },
  })
  await pool.addHost()
  victim = await pool.addTenant()
  stranger = await pool.addTenant()
  await pool.deploy(victim, 'Support.Bot', 'weights of the victim')
  await pool.deploy(victim, 'only-mine', 'other weights of the victim')
  await pool.deploy(stranger, 'Support.Bot', 'weights of the stranger')
})
afterAll(() => pool.stop())

const chat = (message: string) => ({
  messages: [{ role: 'user', content: message }],
  ...{ max_tokens: TOKENS, temperature: 0 },
})

describe('a model’s name', () => {
  /** Texts that one layer or another may read as the victim's model. */
  function disguise(random: () => number): { name: string; path: string } {
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
    const tenants = [victim.name, victim.id, victim.name.toUpperCase(), stranger.name, '', '.', '*']
    const models = ['Support.Bot', 'support.bot', 'only-mine', 'SUPPORT.BOT', 'Support.Bot ']
    const slashes = [
      '/',
      '/',
      '/',
      '//',
      '/./',
      '/../',
      '\\',
      '\u2215',
      '\uff0f',
      '%2f',
      '%252f',
      '/%00',
      ':',
    ]
    const tails = [
      '',
      '',
      '',
      '@1',
      '@01',
      '@2',
      '@-1',
      '@1@1',
      '\u0000',
      '\u200b',
      '.',
      '/',
      '#',
      '?',
      '%20',
    ]
    const heads = [
      '',
      '',
      '',
      '/',
      ' ',
      './',
      `${stranger.name}/../`,
      '\ufeff',
      `${stranger.name}/`,
    ]
    const twist = pick<(text: string) => string>([
      (text) => text,
      (text) => text.normalize('NFD'),
      (text) => text.replace('o', '\u043e'),
      (text) => text.replace('u', 'u\u0301'),
      (text) => [...text].map((sign) => (random() < 0.1 ? sign.toUpperCase() : sign)).join(''),
      (text) => text.replace(/[a-z]/, (sign) => String.fromCharCode(sign.charCodeAt(0) + 0xfee0)),
    ])
    const [tenant, model] = [pick(tenants), twist(pick(models))]
    return {
      name: pick(heads) + tenant + pick(slashes) + model + pick(tails),
      path: `/${pick([tenant, encodeURIComponent(tenant)])}${pick(['/', '%2f', '/x/../'])}${encodeURI(model)}`,
    }
  }

  it(`reaches nothing of another tenant's in ${NAMES} disguises (seed ${SEED})`, async () => {
    const random = createRandom(SEED)
    const own = expectedReply('weights of the stranger', 'hi', TOKENS)
    const base = expectedReply(null, 'hi', TOKENS)
    const crossed: string[] = []
    const statuses = new Map<number, number>()
    for (let i = 0; i < NAMES; i++) {
      const made = disguise(random)
      // Some disguises are none: the stranger's own model answers to its own name.
      const name = i % 50 === 0 ? `${stranger.name}/Support.Bot` : made.name
      const { path } = made
      const isPath = i % 2 === 1
      const response = await pool.call(
        'POST',
        isPath ? `${path}/v1/chat/completions` : '/v1/chat/completions',
        stranger.key,
        isPath ? chat('hi') : { ...chat('hi'), model: name },
      )
      const { status } = response
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      const text = await response.text()
      if (status !== 200) {
        expect([400, 404], `${name} ${path} ${text}`).toContain(status)
        continue
      }
      const content = reply.parse(JSON.parse(text)).choices[0]?.message.content
      if (content !== own && content !== base) crossed.push(isPath ? path : name)
    }
    expect(crossed).toEqual([])
    expect(statuses.get(200)).toBeGreaterThanOrEqual(NAMES / 50)
    expect(statuses.get(404)).toBeGreaterThan(NAMES / 4)
    const { rows } = await pool.database.db.execute<{ count: number }>(
      `select count(*)::int as count from usage_events where tenant_id = '${victim.id}'`,
    )
    expect(rows[0]?.count).toBe(0)
    reportRun('name confusion', { seed: SEED, tried: NAMES, crossed: 0 })
  }, 600_000)
})

describe('a request id', () => {
  it('that clients send is theirs alone: all at once under one id, each gets its own answer', async () => {
    const asked = Array.from({ length: AT_ONCE }, (_, i) => ({
      tenant: i % 2 === 0 ? victim : stranger,
      weights: i % 2 === 0 ? 'weights of the victim' : 'weights of the stranger',
      message: `hello ${i}`,
    }))
    const answers = await Promise.all(
      asked.map(async ({ tenant, message }) => {
        const response = await fetch(`${pool.url}/v1/chat/completions`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${tenant.key}`,
            'x-request-id': 'req_chosen',
            'x-client-request-id': 'req_chosen',
          },
          body: JSON.stringify({ ...chat(message), model: 'Support.Bot' }),
        })
        const id = response.headers.get('x-request-id')
        return { ...reply.parse(await response.json()), id }
      }),
    )
    for (const [i, { choices }] of answers.entries()) {
      const { weights, message } = asked[i] ?? { weights: '', message: '' }
      expect(choices[0]?.message.content).toBe(expectedReply(weights, message, TOKENS))
    }
    const ids = answers.map(({ id }) => id)
    expect(new Set(ids).size).toBe(AT_ONCE)
    expect(ids).not.toContain('req_chosen')
  })

  it('of an idempotent request is its tenant’s: the same key of two tenants is two requests', async () => {
    const ask = (tenant: TestTenant) =>
      fetch(`${pool.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, 'idempotency-key': 'the-same' },
        body: JSON.stringify({ ...chat('hello'), model: 'Support.Bot' }),
      })
    const [a, b] = [await ask(victim), await ask(stranger)]
    expect([a.status, b.status], await b.clone().text()).toEqual([200, 200])
    expect(a.headers.get('x-request-id')).not.toBe(b.headers.get('x-request-id'))
    expect(b.headers.get('idempotency-replayed')).toBeNull()
    const content = reply.parse(await b.json()).choices[0]?.message.content
    expect(content).toBe(expectedReply('weights of the stranger', 'hello', TOKENS))
    const again = await ask(stranger)
    expect(again.headers.get('x-request-id')).toBe(b.headers.get('x-request-id'))
  })
})

it('no header of a client reaches a host', async () => {
  sent.length = 0
  const headers = {
    authorization: `Bearer ${victim.key}`,
    cookie: 'a=b',
    forwarded: 'for=1.2.3.4',
    'proxy-authorization': 'Grant x',
    'x-forwarded-for': '1.2.3.4',
    'x-grant': 'Grant x',
    'x-http-method-override': 'DELETE',
    'x-nozzle-tenant': stranger.id,
    'x-request-id': 'req_chosen',
    'x-tenant-id': stranger.id,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    baggage: 'tenant=other',
  }
  const body = JSON.stringify({ ...chat('hello'), model: 'Support.Bot' })
  const response = await fetch(`${pool.url}/v1/chat/completions`, { method: 'POST', headers, body })
  expect(response.status).toBe(200)
  await response.body?.cancel()
  const form = new FormData()
  form.append('config', new Blob(['{}']), 'adapter_config.json')
  form.append('weights', new Blob(['w']), 'adapter_model.safetensors')
  const path = `/v1/tenants/${victim.name}/models/another/versions`
  const deployed = await fetch(pool.url + path, { method: 'POST', headers, body: form })
  expect(deployed.status).toBe(201)
  const own = ['authorization', 'content-type', 'traceparent', 'tracestate', 'x-request-id']
  for (const call of sent) {
    expect([...call.keys()].filter((name) => !own.includes(name))).toEqual([])
    // The edge's own, which the host's reply repeats.
    expect(call.get('x-request-id')).not.toBe(headers['x-request-id'])
  }
  // The edge asks hosts for other things, too, such as whether they live.
  const granted = sent.map((call) => call.get('authorization')).filter((each) => each !== null)
  expect(granted.length).toBeGreaterThan(1)
  for (const authorization of granted) expect(authorization).toMatch(/^Grant /)
})
