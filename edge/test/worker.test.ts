/**
 * The Worker itself: built by wrangler, run in workerd, on Neon's HTTP driver, in front of a real
 * host. Nothing here needs a network beyond loopback.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { usageRollups } from '../../db/schema/usage-rollups.ts'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import { type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts'
import type { TestTenant } from './support/pool-client.ts'
import { StreamCaller } from './support/stream-caller.ts'
import { expectedReply, promptTokens, until } from './support/test-pool.ts'
import { WorkerPool } from './support/worker-pool.ts'

let receiver: OtlpReceiver
let client: WorkerPool
let tenant: TestTenant

beforeAll(async () => {
  receiver = await startOtlpReceiver()
  client = await WorkerPool.start({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url })
  tenant = await client.addTenant()
  await client.deploy(tenant, 'support', 'weights')
}, 120_000)

afterAll(async () => {
  await client?.stop()
  await receiver.close()
})

const body = {
  model: 'support',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 12,
  temperature: 0,
}

/** Of the base model, which every tenant has. */
const base = { ...body, model: 'fake-base' }

describe('worker.ts in workerd', () => {
  it('reads and writes its database through the Neon driver', () => {
    expect(client.endpoint.count()).toBeGreaterThan(5)
  })

  it('says which version of it answers, for the smoke test of a release', async () => {
    const health = await client.call('GET', '/healthz', '')
    expect(health.headers.get('nozzle-worker-version')).toMatch(/^[\w-]{4,}$/)
    expect(await health.json()).toMatchObject({ status: 'ok', base_model: 'fake-base' })
  })

  it('serves a chat completion of a deployed model through the official SDK', async () => {
    const sdk = client.sdk(tenant.key, `/${tenant.name}/support/v1`)
    const reply = await sdk.chat.completions.create(body)
    expect(reply.choices[0]?.message.content).toBe(expectedReply('weights', 'hello', 12))
    expect(reply.usage).toMatchObject({
      prompt_tokens: promptTokens('hello'),
      completion_tokens: 12,
    })
  })

  it('shows pages for a session, with their style and scripts', async () => {
    const form = new URLSearchParams({ key: tenant.key })
    const signIn = { method: 'POST', body: form, redirect: 'manual' } as const
    const headers = { origin: client.url }
    const entered = await fetch(`${client.url}/ui/sign-in`, { ...signIn, headers })
    expect(entered.status).toBe(303)
    const cookie = entered.headers.get('set-cookie')?.split(';')[0] ?? ''
    const models = await fetch(`${client.url}/ui/t/${tenant.name}/models`, { headers: { cookie } })
    const page = await models.text()
    expect(page).toContain(`/${tenant.name}/support/v1`)
    const [, style = ''] = /<link rel="stylesheet" href="([^"]+)"/.exec(page) ?? []
    for (const asset of [style, '/ui/assets/uplot.js', '/ui/assets/charts.js']) {
      const reply = await fetch(client.url + asset)
      expect(reply.status, asset).toBe(200)
      expect((await reply.text()).length, asset).toBeGreaterThan(500)
    }
  })

  it('streams one, chunk by chunk', async () => {
    const stream = await client.sdk(tenant.key).chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    })
    const chunks = []
    for await (const chunk of stream) chunks.push(chunk)
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
    expect(text).toBe(expectedReply('weights', 'hello', 12))
    expect(chunks.length).toBe(12 + 3)
    expect(chunks.at(-1)?.usage?.completion_tokens).toBe(12)
  })

  it('sends the spans of a stream when it has ended', async () => {
    const traceId = 'c'.repeat(32)
    const response = await fetch(`${client.url}/v1/chat/completions`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${tenant.key}`,
        traceparent: `00-${traceId}-${'d'.repeat(16)}-01`,
      },
      body: JSON.stringify({ ...body, stream: true }),
    })
    await response.text()
    await until(() => {
      expect(receiver.faults).toEqual([])
      const spans = receiver.spans.filter((span) => span.traceId === traceId)
      const [server, call] = [2, 3].map((kind) => spans.find((span) => span.kind === kind))
      expect(server?.parentSpanId).toBe('d'.repeat(16))
      expect(call?.parentSpanId).toBe(server?.spanId)
      expect(call?.attributes.get('gen_ai.usage.output_tokens')).toBe(12)
    })
  })

  it('holds limits, and says whether to try again', async () => {
    const limited = await client.addTenant()
    const limits = `/v1/tenants/${limited.name}/limits`
    await client.admin('PATCH', limits, { requests_per_minute: 2 })
    const ask = () => client.call('POST', '/v1/chat/completions', limited.key, base)
    const statuses = []
    for (const _ of Array(4)) {
      const response = await ask()
      statuses.push(response.status)
      expect(response.headers.get('x-ratelimit-limit-requests')).toBe('2')
      await response.text()
    }
    expect(statuses).toEqual([200, 200, 429, 429])
    await client.admin('PATCH', limits, { requests_per_minute: null, monthly_spend_pusd: '0' })
    await until(async () => {
      const refused = await ask()
      expect(refused.headers.get('x-should-retry')).toBe('false')
      expect(await refused.json()).toMatchObject({ error: { code: 'insufficient_quota' } })
    })
  })

  it.each([false, true])('answers an Idempotency-Key once, stream %s', async (stream) => {
    const payer = await client.addTenant()
    const ask = async () => {
      const response = await fetch(`${client.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${payer.key}`, 'idempotency-key': 'order-17' },
        body: JSON.stringify({ ...base, stream }),
      })
      return { replayed: response.headers.get('idempotency-replayed'), text: await response.text() }
    }
    const first = await ask()
    expect(first.replayed).toBeNull()
    await until(async () => expect(await ask()).toEqual({ replayed: 'true', text: first.text }))
    const requests = async () => {
      const usage = await client.admin<{ totals: { requests: number } }>(
        'GET',
        `/v1/tenants/${payer.name}/usage`,
      )
      return usage.totals.requests
    }
    await until(async () => expect(await requests()).toBe(1))
    expect((await ask()).replayed).toBe('true')
  })

  it('ends the work of a client that leaves, which owes what it got', async () => {
    const held = new Gate()
    client.gate = held
    const payer = await client.addTenant()
    const { host } = client
    const { steps } = host.engine
    const caller = new StreamCaller({
      url: `${client.url}/v1`,
      key: payer.key,
      body: { ...body, model: 'fake-base', max_tokens: 400, stream: true },
      choiceTokens: 400,
      isLate: false,
    })
    held.open(3)
    await until(() => expect(host.engine.steps).toBe(steps + 3))
    await until(() => expect(caller.tally.tokens).toBe(3))
    caller.leave()
    // A step that was begun is let go; a request that nobody ended would need 400 of them.
    await until(() => {
      held.open(1)
      expect(host.host.scheduler.load().sequencesRunning).toBe(0)
    })
    expect(host.engine.steps - steps).toBeLessThan(200)
    client.gate = null
    held.open()
    // workerd on its own ends a request without a word to it: the host charges what it handed over.
    await until(async () => {
      const path = `/v1/tenants/${payer.name}/usage/events`
      const { data } = await client.admin<{ data: { completion_tokens: number }[] }>('GET', path)
      expect(data).toMatchObject([{ finish_reason: 'abort', prompt_tokens: promptTokens('hello') }])
      expect(data[0]?.completion_tokens).toBeGreaterThanOrEqual(3)
      expect(data[0]?.completion_tokens).toBeLessThan(200)
    })
  })

  it('books what its host reports', async () => {
    await until(async () => {
      const usage = await client.admin<{ totals: { requests: number } }>(
        'GET',
        `/v1/tenants/${tenant.name}/usage`,
      )
      expect(usage.totals.requests).toBeGreaterThanOrEqual(2)
      expect(usage.totals).toMatchObject({ cost_pusd: expect.stringMatching(/^[1-9]\d*$/) })
    })
  })

  it('does its jobs when the cron trigger fires', async () => {
    const { db } = client.database
    expect(await db.select().from(usageRollups)).toEqual([])
    await client.workers[0]?.fireCron()
    expect((await db.select().from(usageRollups)).length).toBeGreaterThan(0)
  })
})
