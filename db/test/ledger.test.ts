/**
 * The ledger against a recount: transfers, totals and roll-ups, whatever comes in which order,
 * twice, or at the same moment.
 */
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import fc from 'fast-check'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase } from '../client.ts'
import type { Database, Db } from '../database.ts'
import { createId } from '../ids.ts'
import { costOf } from '../money.ts'
import { DEFAULT_PRICES } from '../queries/prices.ts'
import { recordUsageEvents, type UsageEvent } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { ledgerTotals, usageTotals } from '../queries/usage-totals.ts'
import * as schema from '../schema/index.ts'
import { usageRollups } from '../schema/usage-rollups.ts'
import { describeOnEachDatabase, NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'
import { addBaseModel, createEvent } from './support/records.ts'

const NOVEMBER = { start: new Date('2026-11-01T00:00:00Z'), end: new Date('2026-12-01T00:00:00Z') }

function costOfEvent(event: UsageEvent): bigint {
  const tokens = {
    promptTokens: event.prompt_tokens,
    cachedPromptTokens: event.cached_prompt_tokens,
    completionTokens: event.completion_tokens,
  }
  return costOf(tokens, DEFAULT_PRICES)
}

/** Of each request the highest attempt. */
function chargedOf(events: readonly UsageEvent[]): UsageEvent[] {
  const highest = new Map<string, UsageEvent>()
  for (const event of events) {
    const known = highest.get(event.request_id)
    if (known === undefined || event.attempt > known.attempt) highest.set(event.request_id, event)
  }
  return [...highest.values()]
}

const costOfAll = (events: readonly UsageEvent[]) =>
  events.reduce((sum, event) => sum + costOfEvent(event), 0n)

/** What is on each account of the tenant's movements: debits less credits. */
async function balances(db: Db, tenantId: string): Promise<Record<string, bigint>> {
  const { rows } = await db.execute<{ account: string; pusd: string }>(sql`
    select account, sum(pusd)::text as pusd from (
      select tenant_id, debit_account as account, amount_pusd as pusd from ledger_entries
      union all
      select tenant_id, credit_account, -amount_pusd from ledger_entries) as side
    where tenant_id = ${tenantId} group by account`)
  return Object.fromEntries(rows.map(({ account, pusd }) => [account, BigInt(pusd)]))
}

async function countEntries(db: Db, tenantId: string): Promise<Record<string, number>> {
  const { rows } = await db.execute<{ kind: string; entries: number }>(sql`
    select kind, count(*)::integer as entries from ledger_entries
    where tenant_id = ${tenantId} group by kind`)
  return Object.fromEntries(rows.map(({ kind, entries }) => [kind, entries]))
}

/** Two requests of tokens, an attempt of one, and where in the sequence it comes. */
const delivery = fc.record({
  request: fc.nat({ max: 4 }),
  attempt: fc.integer({ min: 1, max: 3 }),
  prompt: fc.nat({ max: 5000 }),
  completion: fc.nat({ max: 5000 }),
})
const step = fc.oneof(
  { weight: 4, arbitrary: fc.array(delivery, { minLength: 1, maxLength: 6 }) },
  { weight: 1, arbitrary: fc.constant('roll up' as const) },
)

describeOnEachDatabase((db) => {
  it('holds what a recount says, whatever comes in which batch, order and attempt', async () => {
    const base_model = await addBaseModel(db())
    const isExact = fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
      const tenantId = createId('ten')
      const ids = [0, 1, 2, 3, 4].map((day) => createId('req', Date.UTC(2026, 10, 3 + day, 9)))
      const stored = new Map<string, UsageEvent>()
      for (const deliveries of steps) {
        if (deliveries === 'roll up') {
          await rollUpUsage(db())
          continue
        }
        const batch = deliveries.map(({ request, attempt, prompt, completion }) =>
          createEvent(tenantId, {
            request_id: ids[request] ?? '',
            attempt,
            base_model,
            prompt_tokens: prompt,
            cached_prompt_tokens: Math.floor(prompt / 3),
            completion_tokens: completion,
          }),
        )
        await recordUsageEvents(db(), batch)
        for (const event of batch) {
          const key = `${event.request_id}/${event.attempt}`
          // The first copy of an event is the one that counts.
          if (!stored.has(key)) stored.set(key, event)
        }
      }
      const charged = chargedOf([...stored.values()])
      const pusd = costOfAll(charged)
      const expected =
        stored.size === 0
          ? {}
          : { [`unbilled/${tenantId}`]: pusd, [`revenue/${base_model}`]: -pusd }
      expect(await balances(db(), tenantId)).toEqual(expected)
      const reversed = stored.size - charged.length
      expect(await countEntries(db(), tenantId)).toEqual({
        ...(stored.size > 0 ? { usage: stored.size } : {}),
        ...(reversed > 0 ? { usage_reversal: reversed } : {}),
      })
      const totals = await usageTotals(db(), { tenantId, ...NOVEMBER, groupBy: ['day'] })
      const byDay = totals.filter((total) => total.requests > 0)
      expect(byDay).toHaveLength(charged.length)
      const [all] = await usageTotals(db(), { tenantId, ...NOVEMBER })
      expect(all).toMatchObject({
        requests: charged.length,
        promptTokens: charged.reduce((sum, event) => sum + event.prompt_tokens, 0),
        completionTokens: charged.reduce((sum, event) => sum + event.completion_tokens, 0),
        costPusd: pusd,
      })
    })
    await fc.assert(isExact, { numRuns: 25 })
  })
})

describe.skipIf(POSTGRES === null)(`many at once (${POSTGRES ?? NO_POSTGRES})`, () => {
  let server: PostgresServer
  let database: Database
  let db: Db
  let tenantId: string
  let base_model: string

  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    database = await openDatabase(server.url)
    await database.migrate()
    db = database.db
  })
  afterAll(async () => {
    await database.close()
    await server.stop()
  })
  beforeEach(async () => {
    tenantId = createId('ten')
    base_model = await addBaseModel(db)
  })

  /** A batch in a transaction that stays open until it is told to commit. */
  async function holdBatch(events: readonly UsageEvent[]): Promise<() => Promise<void>> {
    const client = new pg.Client(server.url)
    await client.connect()
    await client.query('begin')
    await recordUsageEvents(drizzle({ client, schema }), events)
    return async () => {
      await client.query('commit')
      await client.end()
    }
  }

  it.each([
    ['the lower attempt', 1, 2],
    ['the higher attempt', 2, 1],
  ])('takes an overtaken charge back when %s commits last', async (_name, last, first) => {
    const event = createEvent(tenantId, { base_model })
    const attempts = new Map(
      [1, 2].map((attempt) => [attempt, { ...event, attempt, completion_tokens: 10 * attempt }]),
    )
    const commit = await holdBatch([attempts.get(last) ?? event])
    await recordUsageEvents(db, [attempts.get(first) ?? event])
    await rollUpUsage(db)
    await commit()
    expect(await countEntries(db, tenantId)).toEqual({ usage: 2 })
    expect(await rollUpUsage(db)).toMatchObject({ reversed: 1 })
    const amountPusd = costOfEvent(attempts.get(2) ?? event)
    expect(await ledgerTotals(db, { tenantId })).toEqual({ requests: 1, amountPusd })
    expect(await rollUpUsage(db)).toEqual({ entries: 1, reversed: 0 })
    expect(await ledgerTotals(db, { tenantId })).toEqual({ requests: 1, amountPusd })
    expect(await balances(db, tenantId)).toMatchObject({ [`unbilled/${tenantId}`]: amountPusd })
  })

  it('rolls up nothing twice and leaves nothing out while a transaction stays open', async () => {
    const held = createEvent(tenantId, { base_model })
    const commit = await holdBatch([held])
    await recordUsageEvents(db, [createEvent(tenantId, { base_model })])
    await rollUpUsage(db)
    expect((await ledgerTotals(db, { tenantId })).requests).toBe(1)
    await commit()
    expect((await ledgerTotals(db, { tenantId })).requests).toBe(2)
    expect(await rollUpUsage(db)).toMatchObject({ entries: 2 })
    expect((await ledgerTotals(db, { tenantId })).requests).toBe(2)
  })

  it('adds each entry once with writers, rollers and readers at it together', async () => {
    const batches = Array.from({ length: 60 }, () =>
      Array.from({ length: 20 }, () => createEvent(tenantId, { base_model })),
    )
    const events = batches.flat()
    let isWriting = true
    const whileWriting = async (work: () => Promise<void>) => {
      while (isWriting) await work()
    }
    const write = async (mine: UsageEvent[][]) => {
      for (const batch of mine) await recordUsageEvents(db, batch)
    }
    const seen: number[][] = [[], []]
    const others = [
      whileWriting(async () => void (await rollUpUsage(db))),
      whileWriting(async () => void (await rollUpUsage(db))),
      ...seen.map((counts) =>
        whileWriting(async () => {
          const [sums] = await usageTotals(db, { tenantId, ...NOVEMBER })
          counts.push(sums?.requests ?? -1)
        }),
      ),
    ]
    // Each batch comes twice, from two writers, in opposite order.
    const half = batches.slice(0, 30)
    const writers = [half, half.toReversed(), batches.slice(30), batches.slice(30).toReversed()]
    await Promise.all(writers.map(write))
    isWriting = false
    await Promise.all(others)
    for (const counts of seen) {
      expect(counts).toEqual(counts.toSorted((a, b) => a - b))
      expect(counts.at(-1)).toBeLessThanOrEqual(events.length)
    }
    const total = { requests: events.length, amountPusd: costOfAll(events) }
    expect(await ledgerTotals(db, { tenantId })).toEqual(total)
    await rollUpUsage(db)
    expect(await ledgerTotals(db, { tenantId })).toEqual(total)
    const rolled = await db.select().from(usageRollups).where(sql`tenant_id = ${tenantId}`)
    expect(rolled.reduce((sum, row) => sum + row.amountPusd, 0n)).toBe(total.amountPusd)
  })

  it('charges the highest of attempts that many writers bring at the same moment', async () => {
    const requests = Array.from({ length: 100 }, () => createEvent(tenantId, { base_model }))
    const attemptsOf = (attempt: number) =>
      requests.map((event) => ({ ...event, attempt, completion_tokens: 10 * attempt }))
    const batches = [1, 2, 3].map(attemptsOf)
    await Promise.all([
      ...batches.map((batch) => recordUsageEvents(db, batch)),
      ...batches.map((batch) => recordUsageEvents(db, batch.toReversed())),
      rollUpUsage(db),
    ])
    await rollUpUsage(db)
    await rollUpUsage(db)
    expect(await countEntries(db, tenantId)).toEqual({ usage: 300, usage_reversal: 200 })
    const amountPusd = costOfAll(attemptsOf(3))
    expect(await ledgerTotals(db, { tenantId })).toEqual({ requests: 100, amountPusd })
  })
})
