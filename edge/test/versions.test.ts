/** Versions of a model while requests run: canaries, splits, rollbacks, removal. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listAuditEntries } from '#db/queries/audit-log.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { createApiKey } from '../auth/api-key.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, TestPool, until } from './support/test-pool.ts'

const TOKENS = 8
const OLD = 'the old weights'
const NEW = 'the new weights'
const replyOf = (weights: string) => expectedReply(weights, 'hello', TOKENS)
const chat = {
  model: 'bot',
  max_tokens: TOKENS,
  temperature: 0,
  messages: [{ role: 'user', content: 'hello' }],
}

async function ask(pool: TestPool, tenant: TestTenant, extra: object = {}): Promise<string> {
  const path = `/${tenant.name}/bot/v1/chat/completions`
  const response = await pool.call('POST', path, tenant.key, { ...chat, ...extra })
  if (!response.ok) throw new Error(await response.text())
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] }
  return choices[0]?.message.content ?? ''
}

const modelPath = (tenant: TestTenant) => `/v1/tenants/${tenant.name}/models/bot`

async function addCanary(pool: TestPool, tenant: TestTenant, weight: number): Promise<void> {
  const response = await pool.upload(tenant, 'bot', NEW, { query: `?canary=${weight}` })
  expect(response.status).toBe(201)
  expect(await response.json()).toMatchObject({ version: 2, canary: weight, unchanged: false })
}

describe('versions', () => {
  let pool: TestPool
  beforeAll(async () => {
    pool = await TestPool.start()
    await pool.addHost({ engine: { delay: () => new Promise((done) => setTimeout(done, 2)) } })
    return () => pool.stop()
  })

  async function withCanary(weight: number): Promise<TestTenant> {
    const tenant = await pool.addTenant()
    await pool.deploy(tenant, 'bot', OLD)
    await addCanary(pool, tenant, weight)
    return tenant
  }
  const change = (tenant: TestTenant, method: string, verb: string, body: object = {}) =>
    pool.call(method, `${modelPath(tenant)}/${verb}`, pool.operatorKey, body)

  it('share the requests, one conversation on one version, and the usage says so', async () => {
    const tenant = await withCanary(50)
    const users = Array.from({ length: 12 }, (_, i) => `user-${i}`)
    const firsts = await Promise.all(users.map((user) => ask(pool, tenant, { user })))
    expect(new Set(firsts)).toEqual(new Set([replyOf(OLD), replyOf(NEW)]))
    // On the shared endpoint too, where the model is known after the body alone.
    const again = users.map(async (user) => {
      const body = { ...chat, user, model: `${tenant.name}/bot` }
      const response = await pool.call('POST', '/v1/chat/completions', tenant.key, body)
      const reply = (await response.json()) as { choices: { message: { content: string } }[] }
      return reply.choices[0]?.message.content
    })
    expect(await Promise.all(again)).toEqual(firsts)
    const ofNew = firsts.filter((text) => text === replyOf(NEW)).length * 2
    const usage = await until(async () => {
      const path = `/v1/tenants/${tenant.name}/usage?by=version`
      const report = await pool.admin<{ data: { version: number; requests: number }[] }>(
        'GET',
        path,
      )
      if (report.data.reduce((sum, row) => sum + row.requests, 0) < 24) throw new Error('not yet')
      return report.data.map(({ version, requests }) => ({ version, requests }))
    })
    expect(usage).toHaveLength(2)
    expect(usage).toContainEqual({ version: 1, requests: 24 - ofNew })
    expect(usage).toContainEqual({ version: 2, requests: ofNew })
  })

  it('stay the same over the retries of one idempotency key', async () => {
    const tenant = await withCanary(50)
    const path = `/${tenant.name}/bot/v1/chat/completions`
    const texts = Array.from({ length: 6 }, async () => {
      const response = await fetch(pool.url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${pool.operatorKey}`, 'idempotency-key': 'once' },
        body: JSON.stringify(chat),
      })
      return response.status === 200 ? ((await response.json()) as object) : null
    })
    const replies = (await Promise.all(texts)).filter((reply) => reply !== null)
    expect(new Set(replies.map((reply) => JSON.stringify(reply))).size).toBe(1)
  })

  it('follow a split, a promotion and rollbacks at once, each in the audit log', async () => {
    const tenant = await withCanary(0)
    expect(await ask(pool, tenant)).toBe(replyOf(OLD))
    const dry = await change(tenant, 'PATCH', 'deployment?dry_run=true', { canary_weight: 100 })
    const whole = { main: 1, canary: { version: 2, weight: 100 } }
    expect(await dry.json()).toMatchObject({ ...whole, dry_run: true })
    expect(await ask(pool, tenant)).toBe(replyOf(OLD))
    const split = await change(tenant, 'PATCH', 'deployment', { canary_weight: 100 })
    expect(await split.json()).toMatchObject({ ...whole, dry_run: false })
    expect(await ask(pool, tenant)).toBe(replyOf(NEW))
    expect((await change(tenant, 'POST', 'rollback', { to: 1 })).status).toBe(200)
    expect(await ask(pool, tenant)).toBe(replyOf(OLD))
    expect((await change(tenant, 'POST', 'promote')).status).toBe(422)
    const shares = {
      versions: [
        { version: 2, weight: 0 },
        { version: 1, weight: 100 },
      ],
    }
    expect((await change(tenant, 'PATCH', 'deployment', shares)).status).toBe(200)
    expect((await change(tenant, 'POST', 'promote')).status).toBe(200)
    expect(await ask(pool, tenant)).toBe(replyOf(NEW))
    expect((await change(tenant, 'POST', 'rollback')).status).toBe(200)
    expect(await ask(pool, tenant)).toBe(replyOf(OLD))
    expect((await change(tenant, 'POST', 'rollback')).status).toBe(422)
    const entries = await listAuditEntries(pool.database.db, { tenantId: tenant.id, limit: 5 })
    expect(entries.map(({ action, subject }) => `${action} ${subject}`)).toEqual([
      'model.rollback bot@1',
      'model.promote bot@2',
      'model.split bot@1=100 @2=0',
      'model.rollback bot@1',
      'model.split bot@1=0 @2=100',
    ])
  })

  it.each([
    ['PATCH', 'deployment', { canary_weight: 101 }, 400],
    ['PATCH', 'deployment', { versions: [{ version: 1, weight: 90 }] }, 400],
    ['PATCH', 'deployment', { versions: [{ version: 9, weight: 100 }] }, 404],
    ['PATCH', 'deployment', {}, 400],
    ['POST', 'rollback', { to: 9 }, 404],
    ['POST', 'rollback', { to: 'x' }, 400],
  ])('refuse what cannot be: %s %s %j', async (method, verb, body, status) => {
    const tenant = await withCanary(10)
    const response = await change(tenant, method, verb, body)
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ error: { message: expect.any(String) } })
  })

  it('get no number for the bytes that serve already, unless forced to', async () => {
    const tenant = await pool.addTenant()
    await pool.deploy(tenant, 'bot', OLD)
    const again = await pool.upload(tenant, 'bot', OLD)
    expect(again.status).toBe(200)
    expect(await again.json()).toMatchObject({ version: 1, unchanged: true })
    const forced = await pool.upload(tenant, 'bot', OLD, { query: '?force=true' })
    expect(forced.status).toBe(201)
    expect(await forced.json()).toMatchObject({ version: 2, unchanged: false })
  })

  it('of a canary’s bytes get another share of it and no number; others end it and say so', async () => {
    const tenant = await withCanary(10)
    for (const weight of [0, 40]) {
      const again = await pool.upload(tenant, 'bot', NEW, { query: `?canary=${weight}` })
      const unchanged = { version: 2, unchanged: true, canary: weight, ended_canary: null }
      expect([again.status, await again.json()]).toMatchObject([200, unchanged])
      expect(await pool.admin('GET', modelPath(tenant))).toMatchObject({
        ...{ version: 1, canary: { version: 2, weight }, history: [{}, {}] },
      })
    }
    const other = await pool.upload(tenant, 'bot', 'other weights', { query: '?canary=5' })
    const ended = { version: 3, canary: 5, ended_canary: { version: 2, weight: 40 } }
    expect(await other.json()).toMatchObject(ended)
    const main = await pool.upload(tenant, 'bot', NEW)
    expect(await main.json()).toMatchObject({
      ...{ version: 4, canary: null, ended_canary: { version: 3, weight: 5 } },
    })
    const last = await pool.upload(tenant, 'bot', OLD)
    expect(await last.json()).toMatchObject({ version: 5, ended_canary: null })
  })

  it('need one beside a canary, and say so before the upload', async () => {
    const tenant = await pool.addTenant()
    const response = await pool.upload(tenant, 'bot', NEW, { query: '?canary=10' })
    expect(response.status).toBe(422)
    expect(await response.json()).toMatchObject({ error: { param: 'canary' } })
  })

  /** A stream whose first piece has come when `between` runs. */
  async function streamOver(tenant: TestTenant, between: () => Promise<void>): Promise<string> {
    const tokens = 60
    const sdk = pool.sdk(tenant.key, `/${tenant.name}/bot/v1`)
    const messages = [{ role: 'user' as const, content: 'hello' }]
    const request = { ...chat, max_tokens: tokens, messages, stream: true as const }
    const chunks = (await sdk.chat.completions.create(request))[Symbol.asyncIterator]()
    let text = ''
    for (let chunk = await chunks.next(); !chunk.done; chunk = await chunks.next()) {
      const piece = chunk.value.choices[0]?.delta.content ?? ''
      if (text === '' && piece !== '') await between()
      text += piece
    }
    expect(text).toHaveLength(tokens)
    return text
  }

  it('stay with a stream that has begun', async () => {
    const tenant = await withCanary(100)
    const text = await streamOver(tenant, async () => {
      expect((await change(tenant, 'POST', 'rollback', { to: 1 })).status).toBe(200)
      expect(await ask(pool, tenant)).toBe(replyOf(OLD))
    })
    expect(text).toBe(expectedReply(NEW, 'hello', text.length))
  })

  it('are not found once the model is removed, but its streams end and are billed', async () => {
    const tenant = await pool.addTenant()
    await pool.deploy(tenant, 'bot', OLD)
    const text = await streamOver(tenant, async () => {
      await pool.admin('DELETE', modelPath(tenant))
      const refused = await pool.call(
        'POST',
        `/${tenant.name}/bot/v1/chat/completions`,
        tenant.key,
        chat,
      )
      expect(refused.status).toBe(404)
      expect(await refused.json()).toMatchObject({ error: { code: 'model_not_found' } })
    })
    expect(text).toBe(expectedReply(OLD, 'hello', text.length))
    await until(async () => {
      const path = `/v1/tenants/${tenant.name}/usage`
      const { totals } = await pool.admin<{ totals: object }>('GET', path)
      expect(totals).toMatchObject({ requests: 1, completion_tokens: text.length })
    })
  })
})

const POSTGRES = findPostgres()

describe.skipIf(POSTGRES === null)('two edges on one PostgreSQL', () => {
  let server: PostgresServer
  const edges: TestPool[] = []
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    const operatorKey = await createApiKey()
    for (let i = 0; i < 2; i++) {
      edges.push(await TestPool.start({ databaseUrl: server.url, operatorKey }))
    }
  }, 120_000)
  afterAll(async () => {
    for (const edge of edges.toReversed()) await edge.stop()
    await server.stop()
  })

  it('both follow a change and a removal, and agree on who meets a canary', async () => {
    const [first, second] = edges
    if (first === undefined || second === undefined) throw new Error('no edges')
    await first.addHost()
    const tenant = await first.addTenant()
    await first.deploy(tenant, 'bot', OLD)
    expect(await until(() => ask(second, tenant))).toBe(replyOf(OLD))
    await addCanary(first, tenant, 50)
    const users = Array.from({ length: 16 }, (_, i) => `user-${i}`)
    const at = (edge: TestPool) => Promise.all(users.map((user) => ask(edge, tenant, { user })))
    const here = await at(first)
    expect(new Set(here).size).toBe(2)
    await until(async () => expect(await at(second)).toEqual(here))
    await first.admin('DELETE', modelPath(tenant))
    await until(() => expect(ask(second, tenant)).rejects.toThrow('model_not_found'))
  })
})
