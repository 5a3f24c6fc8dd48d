/**
 * A request that goes from host to host, or that no host can finish: one charge, equal to what the
 * client got. Odd hosts answer as told, and later report what a crashed one would.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { listUsageEvents, recordUsageEvents } from '#db/queries/usage.ts'
import { hosts as hostRows } from '#db/schema/hosts.ts'
import {
  type GenerateRequest,
  generateRequest,
  HOST_ROUTES,
  heartbeat,
  type UsageEvent,
} from '#protocol'
import { createHeartbeat } from '../../db/test/support/records.ts'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import { VoidOutbox } from '../pool/void-outbox.ts'
import { firstHostId } from './support/first-host-id.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, promptTokens, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
const servers: Server[] = []
beforeAll(async () => {
  const patience = { doubtMs: 200, probeMs: 200, silenceMs: 400, headersMs: 1000 }
  pool = await TestPool.start({ patience })
  return () => pool.stop()
})
afterEach(async () => {
  for (const host of pool.hosts.splice(0)) await host.stop()
  for (const server of servers.splice(0)) {
    server.close()
    server.closeAllConnections()
  }
  await pool.database.db.delete(hostRows)
  for (const { host_id } of pool.deps.pool.known()) pool.deps.pool.forget(host_id)
})

const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 4,
  temperature: 0,
}

/** A host that says what `answer` writes; it comes before real ones. */
/** Two starts of one id within a second would be of the same epoch. */
const newHostId = () => `hst_${randomUUID()}`

async function addOddHost(answer: (response: ServerResponse) => void): Promise<GenerateRequest[]> {
  const asked: GenerateRequest[] = []
  const server = createServer(async (request, response) => {
    if (request.url !== HOST_ROUTES.generate) return response.writeHead(404).end()
    const generate = generateRequest.parse(await json(request))
    asked.push(generate)
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const { request_id } = generate
    say(response, { type: 'accepted', request_id, host_id: 'odd', prompt_tokens: 1 })
    answer(response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const { load, ...rest } = createHeartbeat()
  const where = { host_id: firstHostId(tenant.id), url: `http://127.0.0.1:${port}` }
  const idle = { ...load, sequences_running: 0, sequences_max: 64 }
  pool.deps.pool.observe(
    heartbeat.parse({ ...rest, ...where, load: idle, base_model: 'fake-base', adapters: [] }),
  )
  return asked
}

const say = (response: ServerResponse, event: object): void => {
  response.write(`data: ${JSON.stringify(event)}\n\n`)
}
const chunk = { type: 'chunk', choice: 0, text: 'abc', tokens: 3, finish_reason: null }
/** Says three tokens and is gone. */
const breakOff = (response: ServerResponse): void => {
  say(response, chunk)
  setImmediate(() => response.destroy())
}
/** Says three tokens, and then nothing at all. */
const hang = (response: ServerResponse): void => say(response, chunk)

/** What a host that crashed reports when it is back. */
function lateReport(request: GenerateRequest): UsageEvent {
  const {
    input,
    sampling,
    n,
    max_tokens,
    stop,
    is_whole,
    ignore_eos,
    logprobs,
    top_logprobs,
    ...facts
  } = request
  return {
    ...facts,
    host_id: 'hst_back',
    epoch: 2,
    prompt_tokens: promptTokens('hello'),
    cached_prompt_tokens: 0,
    completion_tokens: 3,
    finish_reason: 'error',
    gpu_us: 5000,
    queue_us: 0,
    ttft_us: 100,
    swap_us: 0,
    adapter_bytes: 0,
    adapter_source: 'none',
    started_at: new Date().toISOString(),
    ended_at: new Date().toISOString(),
    source: 'recovered',
  }
}

async function charges(of: TestTenant) {
  const rows = await listUsageEvents(pool.database.db, { tenantId: of.id, limit: 100 })
  return rows
    .map(({ attempt, completionTokens, costPusd, source }) => ({
      attempt,
      completionTokens,
      isCharged: costPusd > 0n,
      source,
    }))
    .sort((a, b) => a.attempt - b.attempt)
}

describe('what a host is told of the caller', () => {
  const refuse = (response: ServerResponse): void => {
    say(response, { type: 'error', code: 'queue_full', message: 'no room', usage: null })
    response.end()
  }

  it('is the weight of the tenant, and at each attempt what is left of the deadline', async () => {
    tenant = await pool.addTenant()
    await pool.admin('PATCH', `/v1/tenants/${tenant.name}`, { weight: 7 })
    const slow = (response: ServerResponse): void => void setTimeout(() => refuse(response), 50)
    const asked = [await addOddHost(slow), await addOddHost(slow)]
    const reply = await fetch(`${pool.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'x-nozzle-deadline-ms': '60000' },
      body: JSON.stringify(chat),
    })
    expect(reply.status).toBe(503)
    const requests = asked.flat().sort((a, b) => a.attempt - b.attempt)
    expect(requests.map(({ tenant_weight }) => tenant_weight)).toEqual([7, 7])
    const [first, second] = requests.map(({ deadline_ms }) => deadline_ms ?? 0)
    expect(first).toBeLessThanOrEqual(60_000)
    // The first took 50 ms of it.
    expect(second).toBeLessThanOrEqual((first ?? 0) - 49)
    expect(second).toBeGreaterThan(0)
  })

  it('is no other host once the deadline has passed', async () => {
    tenant = await pool.addTenant()
    const slow = (response: ServerResponse): void => void setTimeout(() => refuse(response), 300)
    const asked = [await addOddHost(slow), await addOddHost(slow)]
    const reply = await fetch(`${pool.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'x-nozzle-deadline-ms': '250' },
      body: JSON.stringify(chat),
    })
    expect(reply.status).toBe(503)
    expect(await reply.json()).toMatchObject({ error: { code: 'deadline_exceeded' } })
    expect(asked.flat().length).toBeLessThanOrEqual(1)
    expect(await charges(tenant)).toEqual([])
  })
})

describe('a whole reply', () => {
  it.each([
    ['dies', breakOff],
    ['hangs', hang],
    [
      'gives up',
      (response: ServerResponse) => {
        say(response, chunk)
        const usage = { prompt_tokens: 9, cached_prompt_tokens: 0, completion_tokens: 3 }
        say(response, { type: 'error', code: 'engine_failed', message: 'no', usage })
        response.end()
      },
    ],
  ])('whose host %s after tokens comes from the next, and is charged once', async (_, answer) => {
    tenant = await pool.addTenant()
    const asked = await addOddHost(answer)
    await pool.addHost({ hostId: newHostId() })
    const reply = await pool.sdk(tenant.key).chat.completions.create(chat)
    expect(reply.choices[0]?.message.content).toBe(expectedReply(null, 'hello', 4))
    expect(asked.map(({ attempt }) => attempt)).toEqual([1])
    const [first] = asked
    if (first === undefined) throw new Error('the first host was not asked')
    await until(async () => expect(await charges(tenant)).toHaveLength(1))
    await recordUsageEvents(pool.database.db, [lateReport(first)])
    expect(await charges(tenant)).toEqual([
      { attempt: 1, completionTokens: 3, isCharged: false, source: 'recovered' },
      { attempt: 2, completionTokens: 4, isCharged: true, source: 'engine' },
    ])
  })

  it('that no host can finish is void, whichever report comes first', async () => {
    for (const isLateFirst of [false, true]) {
      tenant = await pool.addTenant()
      const asked = [await addOddHost(breakOff), await addOddHost(breakOff)]
      const response = await pool.call('POST', '/v1/chat/completions', tenant.key, chat)
      expect(response.status).toBe(502)
      const requests = asked.flat().sort((a, b) => a.attempt - b.attempt)
      expect(requests.map(({ attempt }) => attempt)).toEqual([1, 2])
      if (!isLateFirst) await until(async () => expect(await charges(tenant)).toHaveLength(1))
      await recordUsageEvents(pool.database.db, requests.map(lateReport))
      await until(async () => expect(await charges(tenant)).toHaveLength(3))
      expect(await charges(tenant)).toEqual([
        { attempt: 1, completionTokens: 3, isCharged: false, source: 'recovered' },
        { attempt: 2, completionTokens: 3, isCharged: false, source: 'recovered' },
        { attempt: 3, completionTokens: 0, isCharged: false, source: 'edge' },
      ])
      for (const { host_id } of pool.deps.pool.known()) pool.deps.pool.forget(host_id)
    }
  })

  it('owes no token to a client that left before it', async () => {
    const gate = new Gate()
    tenant = await pool.addTenant()
    const { host, engine } = await pool.addHost({
      hostId: 'hst_gated',
      engine: { delay: gate.pass },
    })
    const leave = new AbortController()
    const reply = fetch(`${pool.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}` },
      body: JSON.stringify({ ...chat, max_tokens: 300 }),
      signal: leave.signal,
    }).catch(() => null)
    gate.open(4)
    await until(() => expect(engine.steps).toBe(4))
    leave.abort()
    await reply
    await until(() => {
      gate.open(1)
      expect(host.scheduler.load().sequencesRunning).toBe(0)
    })
    gate.open()
    // One event, so the host was told before it found its connection closed.
    await until(async () => {
      expect(await charges(tenant)).toMatchObject([{ attempt: 1, completionTokens: 0 }])
    })
  })
})

describe('a stream', () => {
  it('that broke off owes what was passed on', async () => {
    tenant = await pool.addTenant()
    const asked = await addOddHost(breakOff)
    await pool.addHost({ hostId: newHostId() })
    const body = { ...chat, stream: true }
    const response = await pool.call('POST', '/v1/chat/completions', tenant.key, body)
    const text = await response.text()
    expect(text).toContain('"code":"host_failed"')
    const [first] = asked
    if (first === undefined) throw new Error('the first host was not asked')
    await recordUsageEvents(pool.database.db, [lateReport(first)])
    expect(await charges(tenant)).toEqual([
      { attempt: 1, completionTokens: 3, isCharged: true, source: 'recovered' },
    ])
  })

  it('that its client left is not counted as load of its host any more', async () => {
    tenant = await pool.addTenant()
    const gate = new Gate()
    await pool.addHost({ hostId: 'hst_left', engine: { delay: gate.pass } })
    gate.open(2)
    const response = await pool.call('POST', '/v1/chat/completions', tenant.key, {
      ...chat,
      max_tokens: 300,
      stream: true,
    })
    await response.body?.cancel()
    gate.open()
    await until(async () => {
      const [state] = await pool.deps.pool.ready()
      expect(state?.sequences).toBe(0)
    })
  })
})

describe('voids', () => {
  it('wait in memory while the database is away, and are stored once', async () => {
    tenant = await pool.addTenant()
    let isAway = true
    const { db } = pool.database
    const flaky = new Proxy(db, {
      get(target, name, receiver) {
        if (isAway && name === 'execute') return () => Promise.reject(new Error('away'))
        return Reflect.get(target, name, receiver)
      },
    })
    const voids = new VoidOutbox({ ...pool.deps, db: flaky })
    const asked = await addOddHost(breakOff)
    await pool.call('POST', '/v1/chat/completions', tenant.key, chat)
    const [request] = asked
    if (request === undefined) throw new Error('the host was not asked')
    for (const attempt of [7, 8]) await voids.add(request, attempt)
    expect(voids.size).toBe(2)
    isAway = false
    await Promise.all([voids.flush(), voids.flush()])
    expect(voids.size).toBe(0)
    const attempts = (await charges(tenant)).map(({ attempt }) => attempt)
    expect(attempts).toEqual(expect.arrayContaining([7, 8]))
  })
})
