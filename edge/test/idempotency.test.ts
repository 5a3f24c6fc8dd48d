import { sql } from 'drizzle-orm'
import OpenAI from 'openai'
import { beforeAll, describe, expect, it } from 'vitest'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool, until } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
/** What the engine's steps wait for. */
let turn = (): Promise<void> => Promise.resolve()
const slowly = () => new Promise<void>((resolve) => setTimeout(resolve, 10))
const atOnce = () => Promise.resolve()
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  await pool.addHost({ engine: { delay: () => turn() } })
  return () => pool.stop()
})

const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 6,
}
let keys = 0
const newKey = () => `order-${keys++}`

const ask = (key: string, body: object = chat, apiKey = tenant.key, signal?: AbortSignal) =>
  fetch(`${pool.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'idempotency-key': key },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  })

interface Billed {
  readonly request_id: string
  readonly completion_tokens: number
  readonly cost_pusd: string
}

/** Events that are charged, once there are `count` of them. */
const billedOf = (requestIds: readonly (string | null)[], count: number) =>
  until(async () => {
    const path = `/v1/tenants/${tenant.name}/usage/events?limit=1000`
    const { data } = await pool.admin<{ data: Billed[] }>('GET', path)
    const own = data.filter(({ request_id: id, cost_pusd: cost }) => {
      return requestIds.includes(id) && cost !== '0'
    })
    expect(own).toHaveLength(count)
    return own
  })

describe('a request that is sent again under its Idempotency-Key', () => {
  it.each([false, true])(
    'gets the same reply, is generated and billed once (stream: %s)',
    async (stream) => {
      const key = newKey()
      const body = { ...chat, temperature: 1, stream }
      const first = await ask(key, body)
      const text = await first.text()
      expect(first.headers.has('idempotency-replayed')).toBe(false)
      const again = await ask(key, body)
      expect(await again.text()).toBe(text)
      expect(again.headers.get('idempotency-replayed')).toBe('true')
      for (const header of ['x-request-id', 'content-type']) {
        expect(again.headers.get(header)).toBe(first.headers.get(header))
      }
      await billedOf([first.headers.get('x-request-id')], 1)
    },
  )

  it('is one of 100 at once that is answered; SDKs find its reply by themselves', async () => {
    const key = newKey()
    const sdk = pool.sdk(tenant.key, '/v1', { maxRetries: 5 })
    const options = { headers: { 'Idempotency-Key': key } }
    const replies = await Promise.all(
      Array.from({ length: 100 }, () => sdk.chat.completions.create(chat, options)),
    )
    expect(new Set(replies.map((reply) => JSON.stringify(reply))).size).toBe(1)
    await billedOf([`req_${replies[0]?.id.slice('chatcmpl-'.length)}`], 1)
  })

  it('is refused while the first is under way, and with another body for good', async () => {
    const key = newKey()
    const { promise, resolve } = Promise.withResolvers<void>()
    turn = () => promise
    const running = ask(key)
    await until(async () => {
      const second = await ask(key)
      expect(second.status).toBe(409)
      expect(second.headers.get('retry-after-ms')).toBe('1000')
      expect(await second.json()).toMatchObject({ error: { code: 'idempotency_in_progress' } })
    })
    const other = await ask(key, { ...chat, max_tokens: 7 })
    expect(other.status).toBe(422)
    expect(await other.json()).toMatchObject({
      error: { code: 'idempotency_key_reused', param: 'Idempotency-Key' },
    })
    turn = atOnce
    resolve()
    expect((await running).status).toBe(200)
  })

  it('is another request under another API key', async () => {
    const key = newKey()
    const other = await pool.addTenant()
    const replies = [await ask(key), await ask(key, chat, other.key)]
    const ids = replies.map((reply) => reply.headers.get('x-request-id'))
    expect(new Set(ids).size).toBe(2)
  })

  it('is answered anew after a refusal, which bills nothing', async () => {
    const key = newKey()
    const path = `/v1/tenants/${tenant.name}/limits`
    await pool.admin('PATCH', path, { concurrency: 0 })
    expect((await ask(key)).status).toBe(429)
    await pool.admin('DELETE', path)
    const reply = await ask(key, { ...chat, max_tokens: 7 })
    expect(reply.status).toBe(200)
    expect(reply.headers.has('idempotency-replayed')).toBe(false)
  })

  it('runs again as the same request when the client got nothing, and is billed once', async () => {
    const key = newKey()
    turn = slowly
    const leaving = new AbortController()
    const body = { ...chat, max_tokens: 40 }
    const left = ask(key, body, tenant.key, leaving.signal).catch(() => null)
    await until(() => expect(pool.hosts[0]?.engine.steps).toBeGreaterThan(0))
    await new Promise((resolve) => setTimeout(resolve, 100))
    leaving.abort()
    await left
    turn = atOnce
    const reply = await until(async () => {
      const response = await ask(key, body)
      expect(response.status).toBe(200)
      return response
    })
    const billed = await billedOf([reply.headers.get('x-request-id')], 1)
    expect(billed).toMatchObject([{ completion_tokens: 40 }])
  })

  it('is not made a second time when the client had a part of it', async () => {
    const key = newKey()
    turn = slowly
    const body = { ...chat, max_tokens: 400, stream: true as const }
    const options = { headers: { 'Idempotency-Key': key } }
    const { data: stream, response } = await pool
      .sdk(tenant.key)
      .chat.completions.create(body, options)
      .withResponse()
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
    // Held, so that however slow this machine is, the client has left before many tokens are made.
    const hold = Promise.withResolvers<void>()
    turn = () => hold.promise
    const again = await until(async () => {
      const refused = await pool
        .sdk(tenant.key)
        .chat.completions.create(body, options)
        .catch((error) => error)
      expect(refused).toBeInstanceOf(OpenAI.UnprocessableEntityError)
      return refused
    })
    expect(again).toMatchObject({ code: 'idempotency_reply_unavailable' })
    turn = slowly
    hold.resolve()
    const requestId = response.headers.get('x-request-id')
    expect(again.message).toContain(requestId)
    const [billed] = await billedOf([requestId], 1)
    turn = atOnce
    expect(billed?.completion_tokens).toBeLessThan(200)
  })

  it('is not made a second time when its host failed with a part delivered, which is owed', async () => {
    const body = { ...chat, max_tokens: 400, stream: true as const }
    const options = { headers: { 'Idempotency-Key': newKey() } }
    turn = slowly
    const { data: stream, response } = await pool
      .sdk(tenant.key)
      .chat.completions.create(body, options)
      .withResponse()
    let got = 0
    const read = async (): Promise<void> => {
      for await (const chunk of stream) {
        got += chunk.choices[0]?.delta.content ? 1 : 0
        turn = () => Promise.reject(new Error('the device is lost'))
      }
    }
    await expect(read()).rejects.toMatchObject({ code: 'host_failed' })
    turn = atOnce
    await until(async () => {
      const again = pool.sdk(tenant.key).chat.completions.create(body, options)
      await expect(again).rejects.toMatchObject({ code: 'idempotency_reply_unavailable' })
    })
    const billed = await billedOf([response.headers.get('x-request-id')], 1)
    expect(got).toBeGreaterThan(0)
    expect(billed).toMatchObject([{ completion_tokens: got }])
  })

  it('passes to another try when its edge died, under the next attempts', async () => {
    const key = newKey()
    // What a dead edge leaves behind: a claim that nobody renews, and usage that it never saw.
    const dead = await ask(key)
    const requestId = dead.headers.get('x-request-id')
    await billedOf([requestId], 1)
    await pool.database.db.execute(sql`update idempotency_keys
      set state = 'running', locked_until = now(), reply_body = null
      where idempotency_key = ${key}`)
    const reply = await ask(key)
    expect(reply.status).toBe(200)
    expect(reply.headers.get('x-request-id')).toBe(requestId)
    expect(reply.headers.has('idempotency-replayed')).toBe(false)
    await until(async () => {
      const rows = await pool.database.db.execute(sql`select attempt from usage_events
        where request_id = ${requestId} order by attempt`)
      expect(rows.rows).toEqual([{ attempt: 1 }, { attempt: 11 }])
    })
    await billedOf([requestId], 1)
  })

  it.each(['', 'x'.repeat(256), 'a b'])(
    'needs a key of visible characters, case %#',
    async (key) => {
      const refused = await ask(key)
      expect(refused.status).toBe(400)
      expect(await refused.json()).toMatchObject({ error: { param: 'Idempotency-Key' } })
    },
  )
})
