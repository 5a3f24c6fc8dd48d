/**
 * What is peculiar to a Worker: an isolate that many requests share, work that a request leaves
 * behind, clients whose leaving ends a request wherever it is, and isolates that know nothing of
 * each other.
 */
import { once } from 'node:events'
import { request } from 'node:http'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import type { PoolClient, TestTenant } from './support/pool-client.ts'
import { expectedReply, until } from './support/test-pool.ts'
import { WorkerPool } from './support/worker-pool.ts'

const CROWD = 40
/** What a client that leaves waits for its reply, which nobody gives. */
const LEAVE_MS = 500
const reply = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })),
})

let pool: WorkerPool
/** Another isolate on the same database. */
let other: PoolClient
let tenant: TestTenant

beforeAll(async () => {
  pool = await WorkerPool.start()
  other = await pool.addWorker()
  tenant = await pool.addTenant()
}, 120_000)
afterAll(() => pool?.stop())

const bodyOf = (content: string, more: object = {}) => ({
  model: 'fake-base',
  messages: [{ role: 'user' as const, content }],
  max_tokens: 12,
  temperature: 0,
  ...more,
})

const ask = (of: PoolClient, key: string, content = 'hello', more: object = {}) =>
  of.call('POST', '/v1/chat/completions', key, bodyOf(content, more))

async function statusOf(asked: Promise<Response>): Promise<number> {
  const response = await asked
  await response.body?.cancel()
  return response.status
}

/** A client that can leave; `headers` are sent beside its key. */
function visit(key: string, body: object, headers: Record<string, string> = {}) {
  const sent = request(`${pool.url}/v1/chat/completions`, {
    method: 'POST',
    agent: false,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
  })
  sent.on('error', () => {})
  const response = once(sent, 'response')
  // Of one that leaves there is none.
  response.catch(() => {})
  sent.end(JSON.stringify(body))
  return { leave: () => sent.destroy(), response }
}

/** Sends a request whose client leaves before anything came; resolves when the Worker knows. */
async function leave(key: string, body: object, headers: Record<string, string> = {}) {
  const [worker] = pool.workers
  const init = {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  }
  await worker?.leave('/v1/chat/completions', init, LEAVE_MS)
}

/** As `leave`, while the database is asked for it. */
async function leaveWhileHeld(key: string, headers: Record<string, string> = {}): Promise<void> {
  const release = pool.endpoint.hold()
  await leave(key, bodyOf('left'), headers)
  release()
}

const setLimits = (of: TestTenant, limits: object) =>
  pool.admin('PATCH', `/v1/tenants/${of.name}/limits`, limits)

describe('requests that share an isolate', () => {
  it('each get their own reply, whoever comes and leaves beside them', async () => {
    const leaving = Array.from({ length: CROWD }, () =>
      visit(tenant.key, bodyOf('nobody waits', { max_tokens: 200, stream: true })),
    )
    const asked = Array.from({ length: CROWD }, async (_, i) => {
      const response = await ask(pool, tenant.key, `question ${i}`)
      const { choices } = reply.parse(await response.json())
      expect(choices[0]?.message.content).toBe(expectedReply(null, `question ${i}`, 12))
    })
    for (const { leave } of leaving) leave()
    await Promise.all(asked)
  })

  it('are answered when the one that asked the database for them leaves', async () => {
    const newcomer = await pool.addTenant()
    const release = pool.endpoint.hold()
    const before = pool.endpoint.held()
    const left = leave(newcomer.key, bodyOf('first'))
    // Nobody knows its key yet.
    await until(() => expect(pool.endpoint.held()).toBeGreaterThan(before))
    const others = Array.from({ length: CROWD }, () => statusOf(ask(pool, newcomer.key)))
    await left
    release()
    expect(new Set(await Promise.all(others))).toEqual(new Set([200]))
  })

  it('are answered when one leaves that asked for a portion of a limit', async () => {
    const newcomer = await pool.addTenant()
    // So little that each request asks for its own; key and limits are known after the first.
    await setLimits(newcomer, { requests_per_minute: 19 })
    expect(await statusOf(ask(pool, newcomer.key))).toBe(200)
    await leaveWhileHeld(newcomer.key)
    const others = Array.from({ length: 10 }, () => statusOf(ask(pool, newcomer.key)))
    expect(new Set(await Promise.all(others))).toEqual(new Set([200]))
  })
})

describe('a client that leaves a Worker', () => {
  it('gives its place among the requests at once back', async () => {
    const single = await pool.addTenant()
    await setLimits(single, { concurrency: 1 })
    const gate = new Gate()
    pool.gate = gate
    const stream = visit(single.key, bodyOf('hello', { max_tokens: 400, stream: true }))
    gate.open(3)
    await stream.response
    expect(await statusOf(ask(pool, single.key))).toBe(429)
    stream.leave()
    pool.gate = null
    gate.open()
    await until(async () => expect(await statusOf(ask(pool, single.key))).toBe(200))
  })

  it('ends a whole reply that is still to come, at the host too', async () => {
    const gate = new Gate()
    pool.gate = gate
    const { steps } = pool.host.engine
    const left = leave(tenant.key, bodyOf('hello', { max_tokens: 400 }))
    gate.open(3)
    await until(() => expect(pool.host.engine.steps).toBe(steps + 3))
    await left
    await until(() => {
      gate.open(1)
      expect(pool.host.host.scheduler.load().sequencesRunning).toBe(0)
    })
    expect(pool.host.engine.steps - steps).toBeLessThan(200)
    pool.gate = null
    gate.open()
  })

  it('lets its Idempotency-Key be used again where it got nothing', async () => {
    const payer = await pool.addTenant()
    expect(await statusOf(ask(pool, payer.key))).toBe(200)
    const headers = { 'idempotency-key': 'order-18' }
    await leaveWhileHeld(payer.key, headers)
    await until(async () => {
      const [again] = await visit(payer.key, bodyOf('left'), headers).response
      again.resume()
      expect(again.statusCode).toBe(200)
    })
  })

  it('leaves its Idempotency-Key as it is known to be where it got something', async () => {
    const gate = new Gate()
    pool.gate = gate
    const headers = { 'idempotency-key': 'order-19' }
    const body = bodyOf('once', { max_tokens: 400, stream: true })
    const first = visit(tenant.key, body, headers)
    gate.open(3)
    const [response] = await first.response
    await once(response, 'data')
    const again = async () => {
      const [later] = await visit(tenant.key, body, headers).response
      return z.object({ error: z.object({ code: z.string() }) }).parse(await json(later)).error.code
    }
    expect(await again()).toBe('idempotency_in_progress')
    first.leave()
    gate.open(3)
    await until(async () => expect(await again()).toBe('idempotency_reply_unavailable'))
    pool.gate = null
    gate.open()
  })
})

describe('what a request leaves behind', () => {
  it('is done after its reply: what it holds of a limit goes back', async () => {
    const shared = await pool.addTenant()
    await setLimits(shared, { concurrency: 1 })
    expect(await statusOf(ask(pool, shared.key))).toBe(200)
    // The first isolate holds the one place until it lay idle for a while.
    await until(async () => expect(await statusOf(ask(other, shared.key))).toBe(200))
  })
})

describe('two isolates', () => {
  it('serve no more together than the limit', async () => {
    const limited = await pool.addTenant()
    await setLimits(limited, { requests_per_minute: 40 })
    const asked = Array.from({ length: 120 }, (_, i) =>
      statusOf(ask(i % 2 === 0 ? pool : other, limited.key)),
    )
    const served = (await Promise.all(asked)).filter((status) => status === 200).length
    expect(served).toBeLessThanOrEqual(40)
    expect(served).toBeGreaterThanOrEqual(38)
  })

  it('answer one Idempotency-Key once', async () => {
    const payer = await pool.addTenant()
    const askOnce = async (of: PoolClient) => {
      const response = await fetch(`${of.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${payer.key}`, 'idempotency-key': 'order-17' },
        body: JSON.stringify(bodyOf('hello')),
      })
      return { status: response.status, text: await response.text() }
    }
    const first = await askOnce(pool)
    expect(first.status).toBe(200)
    expect(await askOnce(other)).toEqual(first)
  })

  it('both know a new model at once', async () => {
    const owner = await pool.addTenant()
    await pool.deploy(owner, 'fresh', 'weights')
    const fresh = { model: 'fresh' }
    const response = await ask(other, owner.key, 'hello', fresh)
    const { choices } = reply.parse(await response.json())
    expect(choices[0]?.message.content).toBe(expectedReply('weights', 'hello', 12))
  })
})
