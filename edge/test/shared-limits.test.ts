/** Limits that four edges share through one PostgreSQL. */
import type OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { costOf } from '#db/money.ts'
import { currentPrice, type Price } from '#db/queries/prices.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { createApiKey } from '../auth/api-key.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool, until } from './support/test-pool.ts'

const POSTGRES = findPostgres()
const EDGES = 4
const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 4,
}
const PROMPT_BOUND = 256 + 32 + 'user'.length + 'hello'.length

describe.skipIf(POSTGRES === null)('four edges on one PostgreSQL', () => {
  let server: PostgresServer
  const edges: TestPool[] = []
  let price: Price
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    const operatorKey = await createApiKey()
    for (let i = 0; i < EDGES; i++) {
      edges.push(await TestPool.start({ databaseUrl: server.url, operatorKey }))
    }
    await first().addHost({ engine: { limits: { sequenceCount: 16 } } })
    price = await until(async () => {
      const known = await currentPrice(first().database.db, 'fake-base')
      if (known === null) throw new Error('not priced yet')
      return known
    })
  }, 120_000)
  afterAll(async () => {
    for (const edge of edges.toReversed()) await edge.stop()
    await server.stop()
  })

  function first(): TestPool {
    const [edge] = edges
    if (edge === undefined) throw new Error('no edge')
    return edge
  }

  const setLimits = (tenant: TestTenant, limits: object) =>
    first().admin('PATCH', `/v1/tenants/${tenant.name}/limits`, limits)

  /** `count` requests at once, in turn to each edge. */
  const askAll = (tenant: TestTenant, count: number) =>
    Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const edge = edges[i % EDGES] ?? first()
        const response = await edge.call('POST', '/v1/chat/completions', tenant.key, chat)
        const body = (await response.json()) as OpenAI.ChatCompletion & { error?: { code: string } }
        return { status: response.status, usage: body.usage, code: body.error?.code ?? null }
      }),
    )
  type Replies = Awaited<ReturnType<typeof askAll>>

  const costOfAll = (replies: Replies): bigint =>
    replies.reduce((sum, { usage }) => {
      if (usage === undefined) return sum
      const tokens = {
        promptTokens: usage.prompt_tokens,
        cachedPromptTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
        completionTokens: usage.completion_tokens,
      }
      return sum + costOf(tokens, price)
    }, 0n)

  it('pass no budget for 10 with 1,000 requests at once, and lose nothing of it', async () => {
    const tenant = await first().addTenant()
    const bound = BigInt(PROMPT_BOUND) * price.promptPusd + 4n * price.completionPusd
    const budget = bound * 10n
    await setLimits(tenant, { monthly_spend_pusd: String(budget) })
    const replies = await askAll(tenant, 1000)
    expect(replies.every(({ status }) => status === 200 || status === 429)).toBe(true)
    expect(replies.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(4)
    expect(costOfAll(replies)).toBeLessThanOrEqual(budget)
    // Whichever edge is asked, all that is left can be used, down to less than one request's bound.
    for (let isOver = false; !isOver; ) {
      const round = await askAll(tenant, EDGES)
      replies.push(...round)
      isOver = round.every(({ code }) => code === 'insufficient_quota')
    }
    const spent = costOfAll(replies)
    expect(spent).toBeLessThanOrEqual(budget)
    expect(spent + bound).toBeGreaterThan(budget)
    await until(async () => {
      const path = `/v1/tenants/${tenant.name}/usage`
      const usage = await first().admin<{ totals: { cost_pusd: string } }>('GET', path)
      expect(usage.totals.cost_pusd).toBe(String(spent))
    })
  }, 60_000)

  it('serve no more requests in a minute, and no more at once, than the limit', async () => {
    const tenant = await first().addTenant()
    await setLimits(tenant, { requests_per_minute: 40 })
    const replies = await askAll(tenant, 200)
    const served = replies.filter(({ status }) => status === 200).length
    expect(served).toBeLessThanOrEqual(40)
    // What an edge took and does not use is a twentieth of the limit at most.
    expect(served).toBeGreaterThanOrEqual(40 - (EDGES - 1) * 2)
  })
})
