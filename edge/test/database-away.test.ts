/** The embedded database fails in the middle of service: what each route then answers. */
import { beforeAll, describe, expect, it } from 'vitest'
import { EDGE_ROUTES } from '#protocol'
import { systemClock } from '../../gpu-host/clock.ts'
import { signForEdge } from '../../gpu-host/grants.ts'
import { createApp } from '../app.ts'
import { createApiKey } from '../auth/api-key.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, POOL_SECRET, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
let stranger: string
const chat = { messages: [{ role: 'user', content: 'hello' }], max_tokens: 5, temperature: 0 }
const ask = (key: string) =>
  pool.call('POST', '/v1/chat/completions', key, { ...chat, model: 'support' })

beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  stranger = await createApiKey()
  await pool.deploy(tenant, 'support', 'weights')
  expect((await ask(tenant.key)).status).toBe(200)
  expect((await ask(stranger)).status).toBe(401)
  await pool.database.close()
  return () => pool.stop()
})

/** Answer from this edge's memory, or about itself. */
const WITHOUT_DATABASE = [
  '/healthz',
  '/metrics',
  '/openapi.json',
  '/docs',
  '/v1/hosts',
  '/v1/whoami',
]

describe('with its database gone, the edge', () => {
  it('serves a known key on a known model as before', async () => {
    const response = await ask(tenant.key)
    const { choices } = (await response.json()) as { choices: { message: object }[] }
    expect(response.status).toBe(200)
    expect(choices[0]?.message).toMatchObject({ content: expectedReply('weights', 'hello', 5) })
  })

  it('lets nobody else in, and says when to come back', async () => {
    const response = await ask(await createApiKey())
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
    expect(await response.json()).toMatchObject({ error: { code: 'database_unavailable' } })
  })

  it('is degraded, and in service', async () => {
    const response = await pool.call('GET', '/healthz', '')
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ status: 'degraded', hosts_ready: 1 })
  })

  it('answers no route of its own with an internal error', async () => {
    const routes = createApp(pool.deps).routes.filter(({ method }) => method !== 'ALL')
    expect(routes.length).toBeGreaterThan(20)
    for (const { method, path } of routes) {
      const filled = path.replace('{.+}', '').replaceAll(':tenant', tenant.name)
      const target = filled.replaceAll(/:[a-z]+/g, 'support')
      const body = method === 'GET' || method === 'DELETE' ? undefined : {}
      // The operator may name base models alone, which the hosts tell.
      const key = /\/v1\/(models|.*completions)/.test(path) ? tenant.key : pool.operatorKey
      const response = await pool.call(method, target, key, body)
      const text = await response.text()
      const where = `${method} ${target}: ${text}`
      // Pages say it in words of their own.
      if (/^\/(ui(\/|$)|$)/.test(path)) {
        expect(response.status, where).not.toBe(500)
        continue
      }
      if (WITHOUT_DATABASE.includes(path)) {
        expect(response.status, where).toBe(200)
        continue
      }
      expect(response.status, where).toBeGreaterThanOrEqual(400)
      if (response.status >= 500 || method === 'GET') {
        // What the request itself lacks may come first; which hosts there are is known by heart.
        expect(JSON.parse(text).error.code, where).toMatch(
          path.startsWith('/v1/hosts/')
            ? /^(database_unavailable|invalid_request|not_found)$/
            : /^(database_unavailable|invalid_request)$/,
        )
      }
    }
  })

  it('takes heartbeats, and leaves usage with the hosts', async () => {
    const seen = pool.deps.pool.known()[0]?.host_id
    expect(seen).toBe('hst_test')
    const body = JSON.stringify({ host_id: 'hst_test', events: [] })
    const secret = new TextEncoder().encode(POOL_SECRET)
    const { usage: route } = EDGE_ROUTES
    const authorization = await signForEdge(secret, systemClock, {
      route,
      requestId: 'shp_test',
      body,
    })
    const init = { method: 'POST', headers: { authorization }, body }
    expect((await fetch(pool.url + route, init)).status).toBe(400)
    // The request above was settled and could not be shipped.
    await until(() => {
      const refused = pool.logs.filter(({ fields }) => fields.path === route)
      expect(refused.at(-1)?.fields).toMatchObject({ status: 503, code: 'database_unavailable' })
    })
    // A reason for the log, not a statement with all that it holds.
    for (const { fields } of pool.logs) expect(String(fields.reason).length).toBeLessThan(500)
  })
})
