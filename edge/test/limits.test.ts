import { eq } from 'drizzle-orm'
import OpenAI from 'openai'
import { beforeAll, describe, expect, it } from 'vitest'
import { costOf, formatUsd } from '#db/money.ts'
import { listAuditEntries } from '#db/queries/audit-log.ts'
import { currentPrice } from '#db/queries/prices.ts'
import { spendLeases } from '#db/schema/spend-leases.ts'
import type { TestTenant } from './support/pool-client.ts'
import { promptTokens, TestPool, until } from './support/test-pool.ts'

let pool: TestPool
/** What the engine's steps wait for. */
let turn = (): Promise<void> => Promise.resolve()
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost({ engine: { limits: { sequenceCount: 16 }, delay: () => turn() } })
  return () => pool.stop()
})

const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 4,
  temperature: 0,
}
/** As request-bound.ts has it for `chat`. */
const BOUND = 256 + 32 + 'user'.length + 'hello'.length + 4
const USED = promptTokens('hello') + 4

const setLimits = (tenant: TestTenant, limits: object) =>
  pool.admin('PATCH', `/v1/tenants/${tenant.name}/limits`, limits)
const setKeyLimits = (tenant: TestTenant, limits: object) =>
  pool.admin('PATCH', `/v1/tenants/${tenant.name}/keys/${tenant.keyId}/limits`, limits)
const ask = (tenant: TestTenant, body: object = chat) =>
  pool.call('POST', '/v1/chat/completions', tenant.key, body)

async function refusalOf(tenant: TestTenant): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await pool.sdk(tenant.key).chat.completions.create(chat)
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error
    throw error
  }
  throw new Error('it was served')
}

async function messageOf(response: Response): Promise<string> {
  const { error } = (await response.json()) as { error: { message: string } }
  return error.message
}

describe('requests per minute', () => {
  it('are served up to the limit, and told in headers', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { requests_per_minute: 3 })
    for (const remaining of ['2', '1', '0']) {
      const response = await ask(tenant)
      expect(response.status).toBe(200)
      expect(response.headers.get('x-ratelimit-limit-requests')).toBe('3')
      expect(response.headers.get('x-ratelimit-remaining-requests')).toBe(remaining)
      expect(response.headers.get('x-ratelimit-reset-requests')).toMatch(/^1m[0-5]s$/)
      expect(response.headers.has('x-ratelimit-limit-tokens')).toBe(false)
    }
    const refused = await ask(tenant)
    expect(refused.status).toBe(429)
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0')
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(55)
    expect(Number(refused.headers.get('retry-after-ms'))).toBeLessThanOrEqual(65_000)
    expect(await refused.json()).toMatchObject({
      error: { code: 'rate_limit_exceeded', type: 'rate_limit_error', param: null },
    })
    expect(await refusalOf(tenant)).toBeInstanceOf(OpenAI.RateLimitError)
  })

  it('of 0 allow nothing, and say so', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { requests_per_minute: 0 })
    const refused = await ask(tenant)
    expect(refused.headers.get('x-should-retry')).toBe('false')
    expect(await messageOf(refused)).toBe(
      'The tenant may make no requests: its limit is 0 requests per minute. Have the limit raised.',
    )
  })

  it('of a key hold beside its tenant’s, and end at once when they are taken away', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { requests_per_minute: 100 })
    await setKeyLimits(tenant, { requests_per_minute: 1 })
    expect((await ask(tenant)).status).toBe(200)
    const refused = await ask(tenant)
    expect(refused.headers.get('x-ratelimit-limit-requests')).toBe('1')
    expect(await refused.json()).toMatchObject({
      error: {
        message: expect.stringMatching(/^The limit of 1 request per minute of this API key/),
      },
    })
    await pool.admin('DELETE', `/v1/tenants/${tenant.name}/keys/${tenant.keyId}/limits`)
    expect((await ask(tenant)).headers.get('x-ratelimit-limit-requests')).toBe('100')
  })
})

describe('tokens per minute', () => {
  it('are reserved at the most and settled at what was used', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { tokens_per_minute: BOUND + USED })
    const first = await ask(tenant)
    expect(first.headers.get('x-ratelimit-remaining-tokens')).toBe(String(USED))
    await first.text()
    const second = await ask(tenant)
    expect(second.status).toBe(200)
    expect(second.headers.get('x-ratelimit-remaining-tokens')).toBe('0')
    await second.text()
    // What is left would do for the request, but not for the most that it can take.
    const third = await ask(tenant)
    expect(third.status).toBe(429)
    expect(third.headers.get('x-ratelimit-remaining-tokens')).toBe(String(BOUND - USED))
  })

  it('refuse for good what can never fit, naming the remedy', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { tokens_per_minute: 100 })
    const refused = await ask(tenant)
    expect(refused.headers.get('x-should-retry')).toBe('false')
    expect(await refused.json()).toMatchObject({
      error: {
        message: expect.stringMatching(
          /take up to \d+ tokens, more than the limit of 100 tokens per minute.*"max_tokens"/,
        ),
      },
    })
  })
})

describe('requests at once', () => {
  it('are held while one is under way, streamed or not, and given back at its end', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { concurrency: 2 })
    const { promise, resolve } = Promise.withResolvers<void>()
    turn = () => promise
    const running = [ask(tenant), ask(tenant, { ...chat, stream: true })]
    await until(async () => {
      const refused = await ask(tenant)
      if (refused.status !== 429) throw new Error('not yet')
      // A place is free when a request ends, not when its lease would.
      expect(refused.headers.get('retry-after')).toBe('1')
    })
    resolve()
    for (const response of await Promise.all(running)) await response.text()
    expect((await ask(tenant)).status).toBe(200)
  })

  it('are not taken up by what another limit refuses', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { concurrency: 1, requests_per_minute: 4, monthly_spend_pusd: '0' })
    for (const _ of Array(8)) {
      expect(await (await ask(tenant)).json()).toMatchObject({
        error: { code: 'insufficient_quota' },
      })
    }
    await setLimits(tenant, { monthly_spend_pusd: null })
    for (const _ of Array(4)) expect((await ask(tenant)).status).toBe(200)
  })
})

describe('a monthly budget', () => {
  const priceOf = async () => {
    const price = await currentPrice(pool.database.db, 'fake-base')
    if (price === null) throw new Error('unpriced')
    return price
  }
  const boundCost = async (): Promise<bigint> => {
    const price = await priceOf()
    return BigInt(BOUND - 4) * price.promptPusd + 4n * price.completionPusd
  }
  const chargedTo = async (tenant: TestTenant): Promise<bigint> => {
    const usage = await pool.admin<{ totals: { cost_pusd: string } }>(
      'GET',
      `/v1/tenants/${tenant.name}/usage`,
    )
    return BigInt(usage.totals.cost_pusd)
  }
  const sum = (costs: readonly bigint[]) => costs.reduce((total, cost) => total + cost, 0n)

  it('that is used up is refused once: SDKs do not try again', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { monthly_spend_pusd: String((await boundCost()) - 1n) })
    let calls = 0
    const counting: typeof fetch = (input, init) => {
      calls += 1
      return fetch(input, init)
    }
    const sdk = pool.sdk(tenant.key, '/v1', { maxRetries: 3, fetch: counting })
    const error = await sdk.chat.completions.create(chat).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(OpenAI.RateLimitError)
    expect(error).toMatchObject({ status: 429, code: 'insufficient_quota' })
    expect(calls).toBe(1)
  })

  it('says whether it is used up or too small, what is charged, and when it starts anew', async () => {
    const tenant = await pool.addTenant()
    const bound = await boundCost()
    await setLimits(tenant, { monthly_spend_pusd: String(bound) })
    await (await ask(tenant)).text()
    await until(async () => expect(await chargedTo(tenant)).toBeGreaterThan(0n))
    const charged = await chargedTo(tenant)
    const now = new Date(pool.deps.nowMs())
    const anew = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1))
    const day = anew.toISOString().slice(0, 10)
    const small = await messageOf(await ask(tenant))
    expect(small).toContain(`can cost up to ${formatUsd(bound)} USD`)
    expect(small).toContain(`only ${formatUsd(bound - charged)} USD of the monthly budget`)
    expect(small).toContain(`${formatUsd(charged)} of ${formatUsd(bound)} USD are charged`)
    expect(small).toMatch(/starts anew on .* Lower "max_tokens"/)
    await setLimits(tenant, { monthly_spend_pusd: String(charged) })
    const usd = formatUsd(charged)
    expect(await messageOf(await ask(tenant))).toBe(
      `The monthly budget of the tenant is used up: ${usd} of ${usd} USD are charged, ` +
        `it starts anew on ${day} (UTC). Have it raised, or wait until then.`,
    )
    await setLimits(tenant, { monthly_spend_pusd: '0' })
    expect(await messageOf(await ask(tenant))).toContain('is 0.00 USD')
  })

  it('for 10 of 1,000 parallel requests is never passed, and all of it can be used', async () => {
    const tenant = await pool.addTenant()
    const [bound, price] = [await boundCost(), await priceOf()]
    const budget = bound * 10n
    await setLimits(tenant, { monthly_spend_pusd: String(budget) })
    const replies = await Promise.all(
      Array.from({ length: 1000 }, async () => {
        const response = await ask(tenant)
        return { status: response.status, body: (await response.json()) as OpenAI.ChatCompletion }
      }),
    )
    const costOfReply = ({ usage }: OpenAI.ChatCompletion): bigint =>
      costOf(
        {
          promptTokens: usage?.prompt_tokens ?? 0,
          cachedPromptTokens: usage?.prompt_tokens_details?.cached_tokens ?? 0,
          completionTokens: usage?.completion_tokens ?? 0,
        },
        price,
      )
    const costs = replies
      .filter(({ status }) => status === 200)
      .map(({ body }) => costOfReply(body))
    expect(replies.every(({ status }) => status === 200 || status === 429)).toBe(true)
    expect(costs.length).toBeGreaterThanOrEqual(8)
    expect(sum(costs)).toBeLessThanOrEqual(budget)
    // One after the other: what the bound does not cover is all that stays.
    for (let isOver = false; !isOver; ) {
      const response = await ask(tenant)
      const body = (await response.json()) as OpenAI.ChatCompletion & { error?: { code: string } }
      if (response.status === 200) costs.push(costOfReply(body))
      isOver = body.error?.code === 'insufficient_quota'
    }
    const spent = sum(costs)
    expect(spent).toBeLessThanOrEqual(budget)
    expect(spent + bound).toBeGreaterThan(budget)
    await until(async () => expect(await chargedTo(tenant)).toBe(spent))
  })

  it('is given back by an edge that ends, but for what its requests cost', async () => {
    const tenant = await pool.addTenant()
    await setLimits(tenant, { monthly_spend_pusd: String((await boundCost()) * 100n) })
    await (await ask(tenant)).text()
    await pool.deps.admission.close()
    const isOwn = eq(spendLeases.scopeId, tenant.id)
    const leases = await pool.database.db.select().from(spendLeases).where(isOwn)
    expect(leases).toMatchObject([{ isReturned: true }])
    await until(async () => expect(await chargedTo(tenant)).toBe(leases[0]?.amountPusd))
  })

  it('keeps what a client that left may owe, until the ledger tells', async () => {
    const tenant = await pool.addTenant()
    const price = await priceOf()
    const bound = (await boundCost()) + 396n * price.completionPusd
    await setLimits(tenant, { monthly_spend_pusd: String(bound) })
    const body = { ...chat, max_tokens: 400, stream: true as const }
    turn = () => new Promise((resolve) => setTimeout(resolve, 10))
    const stream = await pool.sdk(tenant.key).chat.completions.create(body)
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break
    turn = () => Promise.resolve()
    const refused = await ask(tenant)
    expect(await refused.json()).toMatchObject({ error: { code: 'rate_limit_exceeded' } })
    await until(async () => expect((await ask(tenant)).status).toBe(200))
    expect(await chargedTo(tenant)).toBeLessThan(bound / 2n)
  })
})

describe('limits', () => {
  it('of a tenant are the operator’s to change, those of its keys the tenant’s too', async () => {
    const tenant = await pool.addTenant()
    const other = await pool.addTenant()
    const change = (path: string, body: object, key = tenant.key) =>
      pool.call('PATCH', `/v1/tenants/${tenant.name}${path}/limits`, key, body)
    const own = `/keys/${tenant.keyId}`
    expect((await change('', { concurrency: 9 })).status).toBe(403)
    expect((await change('', { concurrency: 9 }, other.key)).status).toBe(404)
    expect((await change(own, { concurrency: 9 }, other.key)).status).toBe(404)
    expect((await change(`/keys/${other.keyId}`, { concurrency: 9 })).status).toBe(404)
    expect((await change('', { concurrency: 9 }, pool.operatorKey)).status).toBe(200)
    expect((await change(own, { monthly_spend_pusd: '7' })).status).toBe(200)
    expect((await change(own, { tokens_per_minute: 5 })).status).toBe(200)
    const path = `/v1/tenants/${tenant.name}/limits`
    const shown = await pool.call('GET', path, tenant.key)
    expect(await shown.json()).toMatchObject({
      data: [
        { key_id: null, concurrency: 9, monthly_spend_pusd: null },
        { key_id: tenant.keyId, monthly_spend_pusd: '7', tokens_per_minute: 5 },
      ],
    })
    const log = await listAuditEntries(pool.database.db, { tenantId: tenant.id, limit: 10 })
    const changes = log.filter(({ action }) => action === 'limit.set')
    expect(changes.map(({ actor, subject }) => [actor, subject])).toEqual([
      [tenant.keyId, tenant.keyId],
      [tenant.keyId, tenant.keyId],
      ['operator', tenant.id],
    ])
  })

  it.each([
    [{}, null],
    [{ rpm: 3 }, 'rpm'],
    [{ concurrency: -1 }, 'concurrency'],
    [{ monthly_spend_pusd: 5 }, 'monthly_spend_pusd'],
    [{ monthly_spend_pusd: '1.5' }, 'monthly_spend_pusd'],
  ])('name what is wrong with them, case %#', async (body, param) => {
    const tenant = await pool.addTenant()
    const path = `/v1/tenants/${tenant.name}/limits`
    const refused = await pool.call('PATCH', path, pool.operatorKey, body)
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param } })
  })
})
