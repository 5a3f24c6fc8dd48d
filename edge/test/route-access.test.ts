/**
 * Who gets past which route, for every route there is: the list is the app's own. A new route that
 * nobody has said anything of fails here.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../gpu-host/clock.ts'
import { signForEdge } from '../../gpu-host/grants.ts'
import { RawCaller } from '../../gpu-host/test/support/raw-caller.ts'
import { OPERATIONS } from '../api/document.ts'
import type { Operation } from '../api/operation.ts'
import { createApp } from '../app.ts'
import {
  ADMIN_BYTES_MAX,
  HEARTBEAT_BYTES_MAX,
  REQUEST_BYTES_MAX,
  UPLOAD_FILES_BYTES_MAX,
  USAGE_BATCH_BYTES_MAX,
} from '../limits.ts'
import type { TestTenant } from './support/pool-client.ts'
import { POOL_SECRET, TestPool } from './support/test-pool.ts'

/** Open to anyone, pages and texts included: all of them, by name. */
const PUBLIC = [
  'GET /',
  'GET /docs',
  'GET /healthz',
  'GET /metrics',
  'GET /openapi.json',
  'GET /ui/assets/:name',
  'GET /ui/sign-in',
  'POST /ui/sign-in',
  'POST /ui/sign-out',
]
/** A model's name is its tenant's to choose: nothing of another tenant is named by it. */
const NAMES_A_NEW_MODEL = ['deployVersion', 'planUpload', 'completeUpload']
const BODIES: Readonly<Record<string, object>> = {
  changeKeyLimits: { concurrency: 1 },
  splitModel: { canary_weight: 10 },
  rollBackModel: {},
  createKey: {},
}
const LIMITS: Readonly<Record<string, number>> = {
  takeHeartbeat: HEARTBEAT_BYTES_MAX,
  takeUsage: USAGE_BATCH_BYTES_MAX,
  planUpload: UPLOAD_FILES_BYTES_MAX,
  completeUpload: UPLOAD_FILES_BYTES_MAX,
}

interface Route {
  readonly method: string
  readonly path: string
  readonly name: string
}
type Ids = Readonly<Record<string, string>>

let pool: TestPool
/** Attacked, and attacking. */
let victim: TestTenant
let stranger: TestTenant
let routes: Route[]
let theirs: Ids

beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  victim = await pool.addTenant()
  stranger = await pool.addTenant()
  theirs = await furnish(victim, 'support')
  await furnish(stranger, 'helper')
  routes = createApp(pool.deps)
    .routes.filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => ({ method, path, name: `${method} ${path}` }))
})
afterAll(() => pool.stop())

/** One of everything that a tenant may have. */
async function furnish(tenant: TestTenant, model: string): Promise<Ids> {
  await pool.deploy(tenant, model, `weights of ${tenant.name}`)
  const api = `/v1/tenants/${tenant.name}`
  await pool.admin('PATCH', `${api}/keys/${tenant.keyId}/limits`, { concurrency: 1000 })
  const period = new Date().toISOString().slice(0, 7)
  const { id: invoice } = await pool.admin<{ id: string }>('POST', `${api}/invoices`, { period })
  return {
    ...{ tenant: tenant.name, model, key: tenant.keyId, invoice },
    ...{ id: `${tenant.name}/${model}`, host: 'hst_test', name: 'pages.css' },
  }
}

function fill(path: string, ids: Ids): string {
  return path.replaceAll(/:([a-z]+)(\{\.\+\})?/g, (_, name: string) => ids[name] ?? 'x')
}

function operationOf({ method, path }: Route): Operation | undefined {
  return OPERATIONS.find((each) => each.method === method.toLowerCase() && each.path === path)
}

function bodyOf(route: Route): object | undefined {
  if (route.method === 'GET' || route.method === 'DELETE') return undefined
  const operation = operationOf(route)
  const chat = { model: theirs.id, messages: [{ role: 'user', content: 'hi' }], max_tokens: 2 }
  if (route.path.endsWith('chat/completions')) return chat
  if (route.path.endsWith('/completions')) return { model: theirs.id, prompt: 'hi', max_tokens: 2 }
  return BODIES[operation?.id ?? ''] ?? {}
}

const isPage = ({ path }: Route): boolean => /^\/ui(\/|$)/.test(path)
const closed = (): Route[] => routes.filter(({ name }) => !PUBLIC.includes(name))

it('the public ones are those that are listed, and the others say whom they want', () => {
  expect(routes.length).toBeGreaterThan(60)
  const names = routes.map(({ name }) => name)
  expect(PUBLIC.filter((name) => !names.includes(name))).toEqual([])
  for (const route of closed()) {
    if (isPage(route)) continue
    expect(operationOf(route)?.caller, route.name).toMatch(/^(key|generate|deploy|operator|host)$/)
  }
})

describe('without a good key', () => {
  it('every closed route refuses, and a page asks to sign in', async () => {
    const good = await signForEdge(new TextEncoder().encode(POOL_SECRET), systemClock, {
      ...{ route: '/internal/v1/elsewhere', requestId: 'hbt_test', body: '{}' },
    })
    const credentials: Record<string, string>[] = [
      {},
      { authorization: 'Bearer nz_' },
      { authorization: `Basic ${btoa(`user:${victim.key}`)}` },
      { authorization: victim.key },
      { authorization: 'Session abc.def.ghi' },
      { authorization: good },
      { 'x-api-key': victim.key, 'api-key': victim.key },
      { cookie: `nozzle_session=${victim.key}; key=${victim.key}` },
    ]
    const reached: string[] = []
    for (const route of closed()) {
      for (const headers of credentials) {
        const body = bodyOf(route)
        const response = await fetch(pool.url + fill(route.path, theirs), {
          method: route.method,
          headers: { ...headers, 'content-type': 'application/json', origin: pool.url },
          redirect: 'manual',
          ...(body !== undefined && { body: JSON.stringify(body) }),
        })
        await response.body?.cancel()
        const isRefused = isPage(route)
          ? response.headers.get('location')?.startsWith('/ui/sign-in') === true
          : response.status === 401
        if (!isRefused) reached.push(`${route.name} ${JSON.stringify(headers)} ${response.status}`)
      }
    }
    expect(reached).toEqual([])
  })

  it('no closed route reads a body, so that strangers cannot make the edge hold one', async () => {
    const waiting: string[] = []
    for (const route of closed()) {
      if (route.method === 'GET' || isPage(route)) continue
      const caller = await RawCaller.dial(pool.url)
      caller.begin(route.method, fill(route.path, theirs), { authorization: 'Bearer nz_' }, 1e9)
      caller.send('{"a":')
      const reply = await Promise.race([
        caller.reply(),
        new Promise<null>((resolve) => setTimeout(() => resolve(null), 5000)),
      ])
      if (reply?.status !== 401) waiting.push(`${route.name}: ${reply?.status}`)
      caller.end()
    }
    expect(waiting).toEqual([])
  })

  it('a method that a path does not have finds nothing', async () => {
    for (const path of new Set(closed().map(({ path: each }) => each))) {
      const methods = routes.filter((route) => route.path === path).map(({ method }) => method)
      for (const method of ['PUT', 'DELETE', 'PATCH', 'POST'].filter((m) => !methods.includes(m))) {
        const headers = { authorization: `Bearer ${pool.operatorKey}`, origin: pool.url }
        const response = await fetch(pool.url + fill(path, theirs), { method, headers })
        await response.body?.cancel()
        expect([401, 404], `${method} ${path}`).toContain(response.status)
      }
    }
  })
})

describe("with another tenant's ids", () => {
  /** Of a route, with A's ids and with ids that nobody has: status, and text without the ids. */
  async function compare(route: Route, ids: Ids, none: Ids): Promise<[string, string]> {
    const answer = async (given: Ids): Promise<string> => {
      const response = await pool.call(
        route.method,
        fill(route.path, given),
        stranger.key,
        bodyOf(route),
      )
      let text = await response.text()
      // The longest first: some are part of others.
      const texts = Object.values(given).toSorted((a, b) => b.length - a.length)
      for (const id of texts) text = text.replaceAll(id, '…')
      return `${response.status} ${text}`
    }
    return [await answer(ids), await answer(none)]
  }

  const ofTenants = (): Route[] => closed().filter(({ path }) => path.includes(':tenant'))

  it('every route of a tenant answers as if there were none: 404, or 403 to all but the operator', async () => {
    const before = await stateOf(victim)
    const of = (tenant: string): Ids => ({ ...theirs, tenant, id: `${tenant}/${theirs.model}` })
    let seen = 0
    for (const route of ofTenants()) {
      if (isPage(route)) continue
      for (const tenant of [victim.name, victim.id]) {
        const [given, unknown] = await compare(route, of(tenant), of('tenant-nobody'))
        expect(given, route.name).toBe(unknown)
        const isOperators = operationOf(route)?.caller === 'operator'
        if (isOperators) expect(given, route.name).toMatch(/^(403|404) /)
        else expect(given, route.name).toMatch(/^404 .*"(not_found|model_not_found)"/s)
        seen += 1
      }
    }
    expect(seen).toBeGreaterThan(60)
    expect(await stateOf(victim)).toBe(before)
  })

  it("a tenant's own routes find nothing of another's: key, model, invoice", async () => {
    const before = await stateOf(victim)
    let seen = 0
    for (const route of ofTenants()) {
      if (isPage(route) || !/:(key|model|invoice)/.test(route.path)) continue
      if (NAMES_A_NEW_MODEL.includes(operationOf(route)?.id ?? '')) continue
      const mixed = { ...theirs, tenant: stranger.name }
      const none = {
        ...{ tenant: stranger.name, key: 'key_000000000000', model: 'nothing' },
        ...{ invoice: 'inv_nothing', id: 'nothing' },
      }
      const [given, unknown] = await compare(route, mixed, none)
      expect(given, route.name).toBe(unknown)
      const isOperators = operationOf(route)?.caller === 'operator'
      expect(given, route.name).toMatch(isOperators ? /^403 / : /^404 /)
      seen += 1
    }
    expect(seen).toBeGreaterThan(10)
    expect(await stateOf(victim)).toBe(before)
  })

  it('every other route shows nothing of the other tenant, whatever its query names', async () => {
    const marks = [victim.name, victim.id, victim.keyId, theirs.invoice ?? '', victim.key]
    let seen = 0
    for (const route of closed()) {
      if (isPage(route) || route.path.includes(':tenant')) continue
      const operation = operationOf(route)
      if (operation?.caller === 'host') continue
      const queries = new URLSearchParams({ start_time: '0', limit: '5' })
      for (const [list, id] of Object.entries({
        ...{ project_ids: victim.id, api_key_ids: victim.keyId, models: theirs.id ?? '' },
        ...{ tenant: victim.name, model: theirs.id ?? '', key: victim.keyId },
      })) {
        queries.append(list, id)
      }
      for (const query of ['', `?${queries}`]) {
        const path = fill(route.path, theirs) + query
        const response = await pool.call(route.method, path, stranger.key, bodyOf(route))
        const text = await response.text()
        seen += 1
        if (operation?.caller === 'operator') {
          expect(response.status, route.name).toBe(403)
          continue
        }
        if (response.status < 400) {
          for (const mark of marks) expect(text, `${route.name}${query}`).not.toContain(mark)
        } else {
          expect([400, 404], `${route.name}${query} ${text}`).toContain(response.status)
        }
      }
    }
    expect(seen).toBeGreaterThan(30)
  })

  it('every page is not there', async () => {
    const cookie = await signIn(stranger.key)
    const before = await stateOf(victim)
    let seen = 0
    for (const route of ofTenants()) {
      if (!isPage(route)) continue
      const response = await fetch(pool.url + fill(route.path, theirs), {
        method: route.method,
        headers: { cookie, origin: pool.url, 'content-type': 'application/x-www-form-urlencoded' },
        redirect: 'manual',
        ...(route.method === 'POST' && { body: 'weight=10&scope=generate&message=hi&to=1' }),
      })
      const text = await response.text()
      expect(response.status, `${route.name} ${text.slice(0, 300)}`).toBe(404)
      expect(text, route.name).not.toContain(victim.keyId)
      seen += 1
    }
    expect(seen).toBeGreaterThan(10)
    expect(await stateOf(victim)).toBe(before)
  })

  async function signIn(key: string): Promise<string> {
    const response = await fetch(`${pool.url}/ui/sign-in`, {
      method: 'POST',
      headers: { origin: pool.url, 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ key }),
      redirect: 'manual',
    })
    return response.headers.get('set-cookie')?.split(';')[0] ?? ''
  }

  async function stateOf({ name }: TestTenant): Promise<string> {
    const paths = ['keys', 'limits', 'models', 'invoices', 'models/support'].map(
      (path) => `/v1/tenants/${name}/${path}`,
    )
    return JSON.stringify(await Promise.all(paths.map((path) => pool.admin('GET', path))))
  }
})

describe('a body', () => {
  const withBody = (): Route[] =>
    routes.filter((route) => {
      const operation = operationOf(route)
      return operation?.body !== undefined && operation.body.mediaType === undefined
    })

  function limitOf(route: Route): number {
    if (route.path.endsWith('completions')) return REQUEST_BYTES_MAX
    return LIMITS[operationOf(route)?.id ?? ''] ?? ADMIN_BYTES_MAX
  }

  async function authorize(route: Route): Promise<string> {
    const { caller } = operationOf(route) ?? {}
    if (caller !== 'host') return `Bearer ${caller === 'generate' ? victim.key : pool.operatorKey}`
    return signForEdge(new TextEncoder().encode(POOL_SECRET), systemClock, {
      ...{ route: route.path, requestId: 'hbt_test', body: '' },
    })
  }

  it('is bounded in bytes on every route, not in characters, whether or not it says its length', async () => {
    expect(withBody().length).toBeGreaterThan(15)
    for (const route of withBody()) {
      const bytesMax = limitOf(route)
      // Three bytes each: fewer characters than the limit, more bytes.
      const text = new TextEncoder().encode(`{"a":"${'€'.repeat(Math.ceil(bytesMax / 2.5))}"}`)
      for (const length of [text.length, null]) {
        const caller = await RawCaller.dial(pool.url)
        const authorization = await authorize(route)
        caller.begin(route.method, fill(route.path, theirs), { authorization }, length)
        if (length === null) caller.chunk(text)
        else caller.send(text)
        const reply = await caller.reply()
        expect(reply.status, `${route.name} ${length} ${reply.body}`).toBe(413)
        expect(reply.body, route.name).toContain('payload_too_large')
        caller.end()
      }
    }
  })

  it('that nests without end is refused on every route, not parsed', async () => {
    const body = '['.repeat(30_000)
    for (const route of withBody()) {
      const { caller } = operationOf(route) ?? {}
      const authorization =
        caller === 'host'
          ? await signForEdge(new TextEncoder().encode(POOL_SECRET), systemClock, {
              ...{ route: route.path, requestId: 'hbt_test', body },
            })
          : await authorize(route)
      const response = await fetch(pool.url + fill(route.path, theirs), {
        ...{ method: route.method, headers: { authorization }, body },
      })
      const text = await response.text()
      expect(response.status, `${route.name} ${text}`).toBe(400)
      expect(text, route.name).toContain('nested more than')
    }
  })
})
