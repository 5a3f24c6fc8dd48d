/**
 * Who gets past which route of a host, for every route of its table, and what a caller may cost
 * that does not read, does not send, or does either as slowly as it can.
 */
import { createHash, randomUUID } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { readConfig, type ServerLimits } from '../config.ts'
import { HOST_ROUTES, hostErrorBody } from '../protocol.ts'
import { createRoutes } from '../routes.ts'
import { RawCaller, type RawReply } from './support/raw-caller.ts'
import {
  claimsOf,
  createRequest,
  POOL_SECRET,
  signGrant,
  TestHost,
  type TestHostOptions,
} from './support/test-host.ts'

/** Open to anyone: all of them, by name. */
const PUBLIC: readonly string[] = [HOST_ROUTES.health, HOST_ROUTES.metrics]
const { server: LIMITS } = readConfig({
  NOZZLE_POOL_SECRET: POOL_SECRET,
  NOZZLE_BASE_MODEL_PATH: 'none',
  NOZZLE_BASE_MODEL_NAME: 'fake-base',
})

const hosts: TestHost[] = []
const callers: RawCaller[] = []
afterEach(async () => {
  for (const caller of callers.splice(0)) caller.end()
  for (const host of hosts.splice(0)) await host.stop()
})

async function start(
  limits: Partial<ServerLimits> = {},
  options: TestHostOptions = {},
): Promise<TestHost> {
  const settings = { server: { ...LIMITS, ...limits } }
  const host = await TestHost.start({ ...options, settings })
  hosts.push(host)
  return host
}

async function dial(host: TestHost): Promise<RawCaller> {
  const caller = await RawCaller.dial(host.host.url)
  callers.push(caller)
  return caller
}

/** The table as the host has it; what it does is not asked here. */
function routesOf({ host }: TestHost): { path: string; access: string }[] {
  const deps = { stagingDirectory: '', limits: LIMITS, scheduler: host.scheduler }
  const table = createRoutes(deps as unknown as Parameters<typeof createRoutes>[0])
  return [...table].map(([path, { access }]) => ({ path, access }))
}

const hash = (body: string): string => createHash('sha256').update(body).digest('hex')
const codeOf = ({ body }: RawReply): string => JSON.parse(body).error.code

describe('the table of routes', () => {
  it('has the public ones that are listed, and every route of the protocol', async () => {
    const routes = routesOf(await start())
    expect(routes.map(({ path }) => path).sort()).toEqual(Object.values(HOST_ROUTES).sort())
    const open = routes.filter(({ access }) => access !== 'signed').map(({ path }) => path)
    expect(open.sort()).toEqual([...PUBLIC].sort())
  })

  it('lets nobody past a signed route without a grant for it, and reads no body before', async () => {
    const host = await start()
    for (const { path, access } of routesOf(host)) {
      if (access === 'public') continue
      const elsewhere = Object.values(HOST_ROUTES).find((each) => each !== path) ?? ''
      const credentials: [string, Record<string, string>, number, string][] = [
        ['POST', {}, 401, 'grant_invalid'],
        ['POST', { authorization: 'Bearer nz_x' }, 401, 'grant_invalid'],
        ['POST', { authorization: await signGrant({ route: path }) }, 401, 'grant_invalid'],
        [
          'POST',
          { authorization: `Grant ${await signGrant({}, 'x'.repeat(40))}` },
          401,
          'grant_invalid',
        ],
        [
          'POST',
          { authorization: `Grant ${await signGrant({ route: elsewhere })}` },
          403,
          'grant_mismatch',
        ],
        [
          'POST',
          { authorization: `Grant ${await signGrant({ route: path, method: 'GET' })}` },
          403,
          'grant_mismatch',
        ],
        [
          'GET',
          { authorization: `Grant ${await signGrant({ route: path })}` },
          405,
          'method_not_allowed',
        ],
        [
          'PUT',
          { authorization: `Grant ${await signGrant({ route: path })}` },
          405,
          'method_not_allowed',
        ],
      ]
      for (const [method, headers, status, code] of credentials) {
        const caller = await dial(host)
        // The body never comes.
        caller.begin(method, path, headers, method === 'GET' ? 0 : 1_000_000)
        const reply = await caller.reply()
        expect([reply.status, codeOf(reply)], `${method} ${path}`).toEqual([status, code])
      }
      const query = await dial(host)
      query.begin('POST', `${path}?a=b`, {
        authorization: `Grant ${await signGrant({ route: path })}`,
      })
      expect((await query.reply()).status, path).toBe(404)
    }
  })

  it('takes a grant once, on every route, whatever it answers', async () => {
    const host = await start()
    for (const { path, access } of routesOf(host)) {
      if (access === 'public') continue
      const headers = {
        authorization: `Grant ${await signGrant({ route: path, body_sha256: hash('{}') })}`,
      }
      const replies: RawReply[] = []
      for (let i = 0; i < 2; i++) {
        const caller = await dial(host)
        caller.begin('POST', path, headers, 2)
        caller.send('{}')
        replies.push(await caller.reply())
      }
      const [first, second] = replies
      expect(first?.status, path).not.toBe(401)
      expect(second && codeOf(second), path).toBe('grant_replayed')
    }
  })
})

describe('a caller that', () => {
  it('reads nothing of its stream is cut, and its sequence freed', async () => {
    // More than the kernel takes for a client that does not read: some megabytes, as it likes.
    const engine = { limits: { contextLength: 40_000, sequenceCount: 2 }, eosOneIn: 0 }
    const host = await start({ writeTimeoutMs: 300 }, { engine })
    const request = createRequest({ max_tokens: 30_000, logprobs: true, top_logprobs: 20 })
    const body = JSON.stringify(request)
    const claims = { ...claimsOf(request), body_sha256: hash(body) }
    const caller = await dial(host)
    caller.socket.pause()
    caller.begin(
      ...(['POST', HOST_ROUTES.generate] as const),
      { authorization: `Grant ${await signGrant(claims)}` },
      Buffer.byteLength(body),
    )
    caller.send(body)
    await vi.waitFor(() => expect(host.usage).toHaveLength(1), { timeout: 20_000 })
    expect(host.usage[0]).toMatchObject({ finish_reason: 'abort' })
    expect(host.engine.openSequences.size).toBe(0)
  })

  it('sends no end of its headers, or none at all, is cut', async () => {
    const host = await start({ bodyTimeoutMs: 300 })
    const [slow, silent] = [await dial(host), await dial(host)]
    slow.send('POST /internal/v1/generate HTTP/1.1\r\nhost: a\r\nx-slow: ')
    const trickle = setInterval(() => slow.send('a'), 20)
    await Promise.all([slow.closed, silent.closed]).finally(() => clearInterval(trickle))
    expect(slow.received).toContain('408')
  })

  it('sends headers or a body of too many bytes is refused, whether or not it says its length', async () => {
    const host = await start({ requestBytesMax: 1000 })
    const large = await dial(host)
    large.begin('GET', HOST_ROUTES.health, { 'x-large': 'a'.repeat(LIMITS.headerBytesMax) })
    await large.closed
    expect(large.received).toContain('431')
    // Fewer characters than the limit, more bytes.
    const body = Buffer.from(JSON.stringify({ a: '€'.repeat(500) }))
    for (const { path, access } of routesOf(host)) {
      if (access === 'public' || path === HOST_ROUTES.adapters) continue
      for (const length of [body.length, null]) {
        const caller = await dial(host)
        const authorization = `Grant ${await signGrant({ route: path })}`
        caller.begin('POST', path, { authorization }, length)
        if (length === null) caller.chunk(body)
        else caller.send(body)
        expect(codeOf(await caller.reply()), path).toBe('payload_too_large')
      }
    }
  })

  it('sends its body too slowly is refused, and cut when it goes on', async () => {
    const host = await start({ bodyTimeoutMs: 300 })
    const caller = await dial(host)
    const authorization = `Grant ${await signGrant({})}`
    caller.begin('POST', HOST_ROUTES.generate, { authorization }, 100_000)
    const trickle = setInterval(() => caller.send('a'), 20)
    try {
      expect(codeOf(await caller.reply())).toBe('request_timeout')
      await caller.closed
    } finally {
      clearInterval(trickle)
    }
  })

  it('uploads next to nothing gives its place to others, and one with a slow line keeps it', async () => {
    const host = await start({ uploadPace: { graceMs: 300, bytesPerSecond: 4000 } })
    const upload = async (bytes: number, everyMs: number): Promise<[RawCaller, () => void]> => {
      const caller = await dial(host)
      const authorization = `Grant ${await signGrant({ route: HOST_ROUTES.adapters })}`
      const type = { 'content-type': 'multipart/form-data; boundary=xyz' }
      caller.begin('POST', HOST_ROUTES.adapters, { authorization, ...type }, 1_000_000)
      const part = 'content-disposition: form-data; name="weights"; filename="w"'
      caller.send(`--xyz\r\n${part}\r\n\r\n`)
      const timer = setInterval(() => caller.send('a'.repeat(bytes)), everyMs)
      return [caller, () => clearInterval(timer)]
    }
    const [slow, stopSlow] = await upload(5000, 20)
    const [trickling, stopTrickling] = await upload(1, 20)
    expect(codeOf(await trickling.reply())).toBe('request_timeout')
    stopTrickling()
    expect(slow.received).toBe('')
    stopSlow()
  })

  it('nests its JSON without end is refused', async () => {
    const host = await start()
    const body = '['.repeat(100_000)
    const response = await host.post(HOST_ROUTES.generate, body)
    expect(response.status).toBe(400)
    expect(await response.text()).toContain('nested more than')
  })
})

it('a refused request leaves nothing on its connection, which serves others', async () => {
  const test = await start()
  const waiting: number[] = []
  const onRequest = (message: unknown): void => {
    const { socket } = message as { socket: Socket }
    waiting.push(socket.listenerCount('end'))
  }
  subscribe('http.server.request.start', onRequest)
  const missing = createRequest({ adapter_digest: `sha256:${'9'.repeat(64)}` })
  for (const _ of Array(5)) {
    const response = await test.generate({ ...missing, request_id: randomUUID() })
    expect(hostErrorBody.parse(await response.json()).error.code).toBe('adapter_not_found')
  }
  unsubscribe('http.server.request.start', onRequest)
  expect(waiting).toEqual(Array(5).fill(waiting[0]))
})
