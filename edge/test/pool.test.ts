import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http'
import { json } from 'node:stream/consumers'
import OpenAI from 'openai'
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { setHostWish } from '#db/queries/host-wishes.ts'
import { hosts as hostRows } from '#db/schema/hosts.ts'
import { EDGE_ROUTES, generateRequest, type Heartbeat, HOST_ROUTES } from '#protocol'
import { systemClock } from '../../gpu-host/clock.ts'
import { signForEdge } from '../../gpu-host/grants.ts'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import { firstHostId } from './support/first-host-id.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, POOL_SECRET, promptTokens, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
const servers: Server[] = []
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  return () => pool.stop()
})
beforeEach(async () => {
  await pool.database.db.delete(hostRows)
  for (const { host_id } of pool.deps.pool.known()) pool.deps.pool.forget(host_id)
})
afterEach(async () => {
  for (const host of pool.hosts.splice(0)) await host.stop()
  for (const server of servers.splice(0)) {
    server.close()
    server.closeAllConnections()
  }
})

const chat = { model: 'fake-base', messages: [{ role: 'user' as const, content: 'hello' }] }
let hosts = 0
const newHostId = () => `hst_${hosts++}`

async function beat(
  change: Partial<Heartbeat>,
  sign: { secret?: string; body?: string } = {},
): Promise<Response> {
  const body = JSON.stringify({
    host_id: newHostId(),
    epoch: 1,
    url: 'http://127.0.0.1:1',
    version: 'test',
    base_model: 'fake-base',
    base_digest: `sha256:${'0'.repeat(64)}`,
    status: 'ready',
    load: {
      sequences_running: 0,
      sequences_max: 64,
      queue_depth: 0,
      queue_depth_max: 8,
      slots: 4,
      slots_in_use: 0,
    },
    context_length: 512,
    adapters: [],
    ...change,
  })
  const authorization = await signForEdge(
    new TextEncoder().encode(sign.secret ?? POOL_SECRET),
    systemClock,
    { route: EDGE_ROUTES.heartbeat, requestId: 'hbt_test', body },
  )
  return postSigned(sign.body ?? body, authorization)
}

function postSigned(body: string, authorization: string): Promise<Response> {
  return fetch(pool.url + EDGE_ROUTES.heartbeat, {
    method: 'POST',
    headers: { authorization },
    body,
  })
}

/** A host that answers as told; its name puts it before real ones, which are as idle. */
async function addOddHost(
  answer: Parameters<typeof createServer>[1],
  payer = tenant,
): Promise<string> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const hostId = firstHostId(payer.id)
  await beat({ host_id: hostId, url: `http://127.0.0.1:${port}` })
  return hostId
}

const refuseWith =
  (status: number, code: string, retryAfterMs: number | null = null) =>
  (_request: unknown, response: ServerResponse) => {
    const error = { code, message: `no: ${code}`, param: null, retry_after_ms: retryAfterMs }
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error }))
  }

/** Accepts the request, says these texts, and is gone: at once, or when it is told to. */
const breakOffAfter =
  (texts: readonly string[], whenTold: Promise<void> = Promise.resolve()) =>
  async (request: IncomingMessage, response: ServerResponse) => {
    if (request.url !== HOST_ROUTES.generate) return response.destroy()
    const { request_id } = generateRequest.parse(await json(request))
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const chunks = texts.map((text) => ({ type: 'chunk', choice: 0, text, tokens: 1 }))
    const accepted = { type: 'accepted', request_id, host_id: 'h', prompt_tokens: 1 }
    for (const frame of [accepted, ...chunks.map((each) => ({ ...each, finish_reason: null }))]) {
      response.write(`data: ${JSON.stringify(frame)}\n\n`)
    }
    await whenTold
    setImmediate(() => response.destroy())
  }

async function failureOf(promise: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await promise.then(
    () => new Error('it succeeded'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof OpenAI.APIError) return error
  throw error
}

describe('a request without a host', () => {
  it('is refused with a hint when to come back', async () => {
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat))
    expect(error).toBeInstanceOf(OpenAI.InternalServerError)
    expect(error).toMatchObject({ status: 503, code: 'no_host_available' })
    expect(error.headers?.get('retry-after')).toBe('2')
    expect(error.headers?.get('retry-after-ms')).toBe('2000')
  })

  it('is refused with its own status when streamed, too', async () => {
    const error = await failureOf(
      pool.sdk(tenant.key).chat.completions.create({ ...chat, stream: true }),
    )
    expect(error).toMatchObject({ status: 503, code: 'no_host_available' })
  })
})

describe('a host that refuses', () => {
  it.each([
    ['queue_full', 503],
    ['host_draining', 503],
    ['engine_failed', 500],
    ['adapter_load_failed', 502],
  ])('with %s is passed over', async (code, status) => {
    await pool.addHost({ hostId: newHostId(), engine: {} })
    let asked = 0
    await addOddHost((request, response) => {
      if (request.method === 'POST') asked += 1
      refuseWith(status, code)(request, response)
    })
    const reply = await pool
      .sdk(tenant.key)
      .chat.completions.create({ ...chat, max_tokens: 3, temperature: 0 })
    expect(reply.choices[0]?.message.content).toBe(expectedReply(null, 'hello', 3))
    expect(asked).toBe(1)
  })

  it('is believed about the request itself', async () => {
    let asked = 0
    for (let i = 0; i < 2; i++) {
      await addOddHost((request, response) => {
        asked += 1
        refuseWith(400, 'context_length_exceeded')(request, response)
      })
    }
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat))
    expect(error).toMatchObject({ status: 400, code: 'context_length_exceeded' })
    expect(asked).toBe(1)
  })

  it('hands its hint on when all are busy', async () => {
    for (let i = 0; i < 2; i++) await addOddHost(refuseWith(503, 'queue_full', 7000))
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat))
    expect(error).toMatchObject({ status: 503, code: 'overloaded' })
    expect(error.headers?.get('retry-after')).toBe('7')
  })
})

describe('a host that dies', () => {
  it('before it answers costs nothing but the next host', async () => {
    await pool.addHost({ hostId: newHostId() })
    await beat({ host_id: firstHostId(tenant.id) })
    for (let i = 0; i < 8; i++) {
      const reply = await pool.sdk(tenant.key).chat.completions.create({ ...chat, max_tokens: 2 })
      expect(reply.usage?.completion_tokens).toBe(2)
    }
    const metrics = await (await fetch(`${pool.url}/metrics`)).text()
    expect(metrics).toMatch(/host_attempts_total\{outcome="unreachable"\} \d/)
  })

  it.each(['the first token', 'some tokens'])('after %s does what can be done', async (when) => {
    const isEarly = when === 'the first token'
    const { engine } = await pool.addHost({ hostId: newHostId() })
    await addOddHost(breakOffAfter(isEarly ? [] : ['abc']))
    const stream = await pool
      .sdk(tenant.key)
      .chat.completions.create({ ...chat, max_tokens: 4, temperature: 0, stream: true })
    let text = ''
    const read = async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
    }
    if (isEarly) {
      // Nothing was sent, so another host may answer.
      await read()
      expect(text).toBe(expectedReply(null, 'hello', 4))
      return
    }
    const error = await failureOf(read())
    expect(text).toBe('abc')
    expect(engine.steps).toBe(0)
    expect(error).toMatchObject({ code: 'host_failed', type: 'server_error' })
  })

  it('mid-stream leaves an error frame and no [DONE]', async () => {
    await addOddHost(breakOffAfter(['a']))
    const response = await pool.call('POST', '/v1/chat/completions', tenant.key, {
      ...chat,
      stream: true,
    })
    const text = await response.text()
    expect(text).toContain('"content":"a"')
    expect(text).toMatch(/data: \{"error":\{"message":.*"code":"host_failed"\}\}\n\n$/)
    expect(text).not.toContain('[DONE]')
  })

  it('mid-reply fails a reply without a stream', async () => {
    await addOddHost(breakOffAfter(['a']))
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat))
    expect(error).toMatchObject({ status: 502, code: 'host_failed' })
  })
})

describe('hosts that drain one soon after the other', () => {
  it('and close their sockets under streams: the others take all, and they are back at once', async () => {
    const { engine } = await pool.addHost({ hostId: newHostId() })
    const payer = await pool.addTenant()
    const sdk = pool.sdk(payer.key)
    const close = Promise.withResolvers<void>()
    const odd = [1, 2, 3].map(() => addOddHost(breakOffAfter(['a'], close.promise), payer))
    const ids = await Promise.all(odd)
    const streams = [1, 2].map(() => sdk.chat.completions.create({ ...chat, stream: true }))
    const running = (await Promise.all(streams)).map((stream) => stream[Symbol.asyncIterator]())
    for (const chunks of running) await chunks.next()
    const facts = pool.deps.pool.known().filter(({ host_id }) => ids.includes(host_id))
    for (const { host_id, url } of facts) {
      await beat({ host_id, url, beat: 1, status: 'draining' })
    }
    close.resolve()
    const read = async (chunks: AsyncIterator<unknown>) => {
      while (!(await chunks.next()).done);
    }
    for (const chunks of running) {
      expect(await failureOf(read(chunks))).toMatchObject({ code: 'host_failed' })
    }
    // A tenant under which two of four hosts were lost would be held.
    const reply = await sdk.chat.completions.create({ ...chat, max_tokens: 2 })
    expect(reply.usage?.completion_tokens).toBe(2)
    expect(engine.steps).toBe(2)
    const taken = pool.logs.filter(({ message }) => message === 'a host is taken out')
    expect(taken.filter(({ fields }) => ids.includes(`${fields.host_id}`))).toEqual([])
    for (const { host_id, url } of facts) await beat({ host_id, url, epoch: 2 })
    const states = await pool.deps.pool.ready()
    expect(states.map(({ isSuspect }) => isSuspect)).toEqual([false, false, false, false])
  })
})

describe('a client that leaves', () => {
  it.each([true, false])(
    'frees its sequence at once and owes what was made, stream %s',
    async (stream) => {
      const gate = new Gate()
      const { host, engine } = await pool.addHost({
        hostId: newHostId(),
        engine: { delay: gate.pass },
      })
      const leave = new AbortController()
      const payer = await pool.addTenant()
      const reply = fetch(`${pool.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${payer.key}` },
        body: JSON.stringify({ ...chat, max_tokens: 400, stream }),
        signal: leave.signal,
      })
      const outcome = reply.then(
        () => 'answered',
        () => 'left',
      )
      gate.open(5)
      await until(() => expect(engine.steps).toBe(5))
      leave.abort()
      await outcome
      await until(() => {
        gate.open(1)
        expect(host.scheduler.load().sequencesRunning).toBe(0)
      })
      expect(engine.steps).toBeLessThan(200)
      gate.open()
      await until(async () => {
        const { data } = await pool.admin<{ data: { completion_tokens: number }[] }>(
          'GET',
          `/v1/tenants/${payer.name}/usage/events`,
        )
        expect(data).toMatchObject([
          { finish_reason: 'abort', prompt_tokens: promptTokens('hello') },
        ])
        expect(data[0]?.completion_tokens).toBeLessThan(200)
      })
    },
  )
})

describe('heartbeats', () => {
  it('count at once, and under the request id that the host gave', async () => {
    const response = await beat({ host_id: 'hst_new' })
    expect(response.status).toBe(200)
    expect(response.headers.get('x-request-id')).toBe('hbt_test')
    expect(pool.deps.pool.known().map(({ host_id }) => host_id)).toContain('hst_new')
  })

  it('of an older start are refused', async () => {
    const hostId = newHostId()
    expect((await beat({ host_id: hostId, epoch: 5 })).status).toBe(200)
    const stale = await beat({ host_id: hostId, epoch: 4 })
    expect(stale.status).toBe(409)
    expect(stale.headers.get('x-should-retry')).toBe('false')
    // An edge that never heard of the newer start learns it from the database.
    pool.deps.pool.forget(hostId)
    expect((await beat({ host_id: hostId, epoch: 4 })).status).toBe(409)
    expect(pool.deps.pool.known()).toEqual([])
  })

  it('are refused unless signed by the pool, for this route and body, and only once', async () => {
    expect((await beat({}, { secret: 'x'.repeat(32) })).status).toBe(401)
    expect((await beat({}, { body: '{}' })).status).toBe(401)
    expect((await postSigned('{}', 'Bearer x')).status).toBe(401)
    const body = '{}'
    const secret = new TextEncoder().encode(POOL_SECRET)
    const call = { route: EDGE_ROUTES.usage, requestId: 'hbt_test', body }
    expect((await postSigned(body, await signForEdge(secret, systemClock, call))).status).toBe(401)
    const old = { ...systemClock, nowMs: () => Date.now() - 60_000 }
    const right = { ...call, route: EDGE_ROUTES.heartbeat }
    expect((await postSigned(body, await signForEdge(secret, old, right))).status).toBe(401)
    const early = { ...systemClock, nowMs: () => Date.now() + 60_000 }
    expect((await postSigned(body, await signForEdge(secret, early, right))).status).toBe(401)
    const once = await signForEdge(secret, systemClock, right)
    expect((await postSigned(body, once)).status).toBe(400)
    expect((await postSigned(body, once)).status).toBe(401)
  })

  it('of a draining host take it out of the pool', async () => {
    await beat({ status: 'draining' })
    const error = await failureOf(pool.sdk(tenant.key).chat.completions.create(chat))
    expect(error.code).toBe('no_host_available')
  })
})

describe('a host that is to drain', () => {
  const known = (hostId: string) =>
    pool.deps.pool.known().find(({ host_id }) => host_id === hostId)?.status
  const stored = async (hostId: string) => {
    const rows = await pool.database.db.select().from(hostRows)
    return rows.find(({ id }) => id === hostId)?.report.status
  }

  it('counts as draining, whatever it says, until another edge takes the wish back', async () => {
    const hostId = newHostId()
    await setHostWish(pool.database.db, { id: hostId, wish: 'drain' })
    const receipt = await beat({ host_id: hostId })
    expect(await receipt.json()).toEqual({ stored: true, wish: 'drain' })
    expect([known(hostId), await stored(hostId)]).toEqual(['draining', 'draining'])
    await beat({ host_id: hostId, epoch: 2 })
    expect([known(hostId), await stored(hostId)]).toEqual(['draining', 'draining'])
    await setHostWish(pool.database.db, { id: hostId, wish: 'serve' })
    await beat({ host_id: hostId, epoch: 2, beat: 1 })
    expect([known(hostId), await stored(hostId)]).toEqual(['ready', 'ready'])
  })

  it('counts so before the database has said it again', async () => {
    const hostId = newHostId()
    await beat({ host_id: hostId })
    await pool.call('POST', `/v1/hosts/${hostId}/drain`, pool.operatorKey)
    const statuses: unknown[] = []
    const { observe } = pool.deps.pool
    vi.spyOn(pool.deps.pool, 'observe').mockImplementation((report) => {
      statuses.push(report.status)
      return observe.call(pool.deps.pool, report)
    })
    await beat({ host_id: hostId, epoch: 2 })
    vi.restoreAllMocks()
    expect(statuses).toEqual(['draining'])
  })
})

describe('residency', () => {
  it('sends a model where it is, and hints where it is not', async () => {
    const first = await pool.addHost({ hostId: newHostId() })
    const payer = await pool.addTenant()
    // Enough that hashing alone would send some to the host that joins.
    const models = ['a', 'b', 'c', 'd', 'e', 'f']
    for (const model of models) await pool.deploy(payer, model, `${payer.name} ${model}`)
    const askAll = async () => {
      for (const model of models) {
        const path = `/${payer.name}/${model}/v1/chat/completions`
        const response = await pool.call('POST', path, payer.key, {
          ...chat,
          model,
          max_tokens: 1,
        })
        expect(response.status).toBe(200)
      }
    }
    await askAll()
    await until(() => expect(pool.deps.pool.known()[0]?.adapters).toHaveLength(models.length))
    const second = await pool.addHost({ hostId: newHostId() })
    const before = first.engine.steps
    await askAll()
    expect(second.engine.steps).toBe(0)
    expect(first.engine.steps).toBe(before + models.length)
    const metrics = await (await fetch(`${pool.url}/metrics`)).text()
    expect(metrics).toContain('nozzle_edge_prefetches_total{outcome="sent"} 6')
  })

  it('hints on the shared endpoint when the model has arrived, before the rest of the body', async () => {
    await pool.addHost({ hostId: newHostId() })
    const payer = await pool.addTenant()
    await pool.deploy(payer, 'long', `${payer.name} long`)
    const hints = async () => {
      const text = await (await fetch(`${pool.url}/metrics`)).text()
      return Number(/prefetches_total\{outcome="sent"\} (\d+)/.exec(text)?.[1] ?? 0)
    }
    const before = await hints()
    const client = request(`${pool.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${payer.key}`, 'content-type': 'application/json' },
    })
    const answered = once(client, 'response')
    const [head, rest] = ['{"max_tokens":1,"model":"long","messages":', chat.messages]
    client.write(head)
    await until(async () => expect(await hints()).toBe(before + 1))
    client.end(`${JSON.stringify(rest)}}`)
    const [response] = (await answered) as [IncomingMessage]
    expect(response.statusCode).toBe(200)
    // The request itself goes where the hint went: nobody else was told.
    expect(await hints()).toBe(before + 1)
  })
})
