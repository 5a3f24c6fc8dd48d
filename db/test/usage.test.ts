import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { costOf } from '../money.ts'
import { addPrice, currentPrice, DEFAULT_PRICES } from '../queries/prices.ts'
import {
  listUsageEvents,
  recordUsageEvents,
  type UsageEvent,
  type UsagePosition,
} from '../queries/usage.ts'
import { feedEnd, listFedEntries } from '../queries/usage-feed.ts'
import { ledgerTotals, usageByModel, usageTotals } from '../queries/usage-totals.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addBaseModel, createEvent } from './support/records.ts'

const NOVEMBER = { start: new Date('2026-11-01T00:00:00Z'), end: new Date('2026-12-01T00:00:00Z') }
/** Usage events name their tenant without a foreign key, so any id will do. */
const newTenant = () => createId('ten')
const pageOf = (db: Db, tenantId: string) => listUsageEvents(db, { tenantId, limit: 100 })

function costOfEvent(event: UsageEvent, prices = DEFAULT_PRICES): bigint {
  const tokens = {
    promptTokens: event.prompt_tokens,
    cachedPromptTokens: event.cached_prompt_tokens,
    completionTokens: event.completion_tokens,
  }
  return costOf(tokens, prices)
}

describeOnEachDatabase((db) => {
  describe('recordUsageEvents', () => {
    it('stores every field of an event as it was reported', async () => {
      const tenantId = newTenant()
      const event = createEvent(tenantId, { ttft_us: null, gpu_us: 2 ** 40 })
      expect(await recordUsageEvents(db(), [event])).toEqual({ inserted: 1, known: 0 })
      const [row] = await pageOf(db(), tenantId)
      expect(row).toMatchObject({
        requestId: event.request_id,
        tenantId,
        keyId: event.key_id,
        model: event.model,
        modelId: event.model_id,
        adapterVersionId: event.adapter_version_id,
        adapterDigest: event.adapter_digest,
        baseModel: event.base_model,
        priceVersionId: null,
        hostId: event.host_id,
        epoch: 1,
        promptTokens: 100,
        cachedPromptTokens: 40,
        completionTokens: 25,
        finishReason: 'stop',
        gpuUs: 2 ** 40,
        queueUs: 20,
        ttftUs: null,
        swapUs: 0,
        adapterSource: 'slot',
        startedAt: new Date(event.started_at),
        endedAt: new Date(event.ended_at),
        source: 'engine',
      })
    })

    it('charges an event once, however often it comes', async () => {
      const tenantId = newTenant()
      const event = createEvent(tenantId, { base_model: await addBaseModel(db()) })
      const second = { ...event, completion_tokens: 999 }
      expect(await recordUsageEvents(db(), [event, second])).toEqual({ inserted: 1, known: 1 })
      expect(await recordUsageEvents(db(), [second])).toEqual({ inserted: 0, known: 1 })
      expect(await pageOf(db(), tenantId)).toMatchObject([{ completionTokens: 25 }])
      expect(await ledgerTotals(db(), { tenantId })).toEqual({
        requests: 1,
        amountPusd: costOfEvent(event),
      })
    })

    it('charges an event once when many batches bring it at the same moment', async () => {
      const tenantId = newTenant()
      const base_model = await addBaseModel(db())
      const events = Array.from({ length: 600 }, () => createEvent(tenantId, { base_model }))
      // Opposite orders would deadlock if a batch were stored in the order it came in.
      const batches = [events, events.toReversed(), events, events.toReversed(), events]
      const receipts = await Promise.all(batches.map((batch) => recordUsageEvents(db(), batch)))
      expect(receipts.reduce((sum, receipt) => sum + receipt.inserted, 0)).toBe(600)
      expect(receipts.every(({ inserted, known }) => inserted + known === 600)).toBe(true)
      const amountPusd = events.reduce((sum, event) => sum + costOfEvent(event), 0n)
      expect(await ledgerTotals(db(), { tenantId })).toEqual({ requests: 600, amountPusd })
    })

    it('stores a batch of a thousand, and an empty one', async () => {
      const tenantId = newTenant()
      const events = Array.from({ length: 1000 }, () => createEvent(tenantId))
      expect(await recordUsageEvents(db(), events)).toEqual({ inserted: 1000, known: 0 })
      expect(await recordUsageEvents(db(), [])).toEqual({ inserted: 0, known: 0 })
      expect((await ledgerTotals(db(), { tenantId })).requests).toBe(1000)
    })

    it('applies the price that the event names, also when a newer one exists', async () => {
      const tenantId = newTenant()
      const base_model = await addBaseModel(db())
      const first = await currentPrice(db(), base_model)
      const prices = { promptPusd: 7n, cachedPromptPusd: 3n, completionPusd: 11n }
      const newer = await addPrice(db(), { baseModel: base_model, ...prices })
      const old = createEvent(tenantId, { base_model, price_version_id: first?.id ?? null })
      const now = createEvent(tenantId, { base_model, price_version_id: newer })
      await recordUsageEvents(db(), [old, now])
      const rows = new Map((await pageOf(db(), tenantId)).map((row) => [row.requestId, row]))
      expect(rows.get(old.request_id)).toMatchObject({
        costPusd: costOfEvent(old),
        priceBasis: 'named',
      })
      expect(rows.get(now.request_id)).toMatchObject({
        costPusd: costOfEvent(now, prices),
        priceBasis: 'named',
      })
    })

    it('takes a named price of zero for zero, not for none', async () => {
      const tenantId = newTenant()
      const base_model = await addBaseModel(db())
      const prices = { promptPusd: 7n, cachedPromptPusd: 0n, completionPusd: 0n }
      const named = await addPrice(db(), { baseModel: base_model, ...prices })
      await addPrice(db(), { baseModel: base_model, ...DEFAULT_PRICES })
      const event = createEvent(tenantId, { base_model, price_version_id: named })
      await recordUsageEvents(db(), [event])
      const [row] = await pageOf(db(), tenantId)
      expect(row).toMatchObject({ costPusd: costOfEvent(event, prices), priceBasis: 'named' })
    })

    it("falls back to the base model's current price, and says so", async () => {
      const tenantId = newTenant()
      const [base_model, other] = [await addBaseModel(db()), await addBaseModel(db())]
      const prices = { promptPusd: 1n, cachedPromptPusd: 1n, completionPusd: 2n }
      await addPrice(db(), { baseModel: base_model, ...prices })
      const foreign = (await currentPrice(db(), other))?.id ?? null
      const events = [null, 'prc_unknown', foreign].map((price_version_id) =>
        createEvent(tenantId, { base_model, price_version_id }),
      )
      await recordUsageEvents(db(), events)
      const rows = await pageOf(db(), tenantId)
      expect(rows).toHaveLength(3)
      for (const row of rows) expect(row).toMatchObject({ costPusd: 150n, priceBasis: 'current' })
    })

    it('stores an event of an unknown base model, unpriced', async () => {
      const tenantId = newTenant()
      await recordUsageEvents(db(), [createEvent(tenantId, { base_model: 'nobody-knows-it' })])
      expect(await pageOf(db(), tenantId)).toMatchObject([{ costPusd: 0n, priceBasis: 'unpriced' }])
      expect((await ledgerTotals(db(), { tenantId })).requests).toBe(1)
    })

    it('never charges less than nothing for a report that contradicts itself', async () => {
      const tenantId = newTenant()
      const event = createEvent(tenantId, {
        base_model: await addBaseModel(db()),
        prompt_tokens: 10,
        cached_prompt_tokens: 900,
        completion_tokens: 0,
      })
      await recordUsageEvents(db(), [event])
      expect((await ledgerTotals(db(), { tenantId })).amountPusd).toBe(
        10n * DEFAULT_PRICES.cachedPromptPusd,
      )
    })

    it.each([
      ['one batch', [[1, 2, 3]]],
      ['order', [[1], [2], [3]]],
      ['reverse', [[3], [2], [1]]],
      ['a mix', [[2], [1, 3], [2, 1]]],
    ])('leaves the highest attempt alone charged, come in %s', async (_name, batches) => {
      const tenantId = newTenant()
      const first = createEvent(tenantId, { base_model: await addBaseModel(db()) })
      const attempts = new Map(
        [1, 2, 3].map((attempt) => [
          attempt,
          { ...first, attempt, completion_tokens: 10 * attempt },
        ]),
      )
      for (const batch of batches) {
        const events = batch.flatMap((attempt) => attempts.get(attempt) ?? [])
        await recordUsageEvents(db(), events)
      }
      const third = attempts.get(3) ?? first
      expect(await pageOf(db(), tenantId)).toMatchObject([
        { attempt: 3, isSuperseded: false, costPusd: costOfEvent(third) },
        { attempt: 2, isSuperseded: true, costPusd: 0n },
        { attempt: 1, isSuperseded: true, costPusd: 0n },
      ])
      const amountPusd = costOfEvent(third)
      expect(await ledgerTotals(db(), { tenantId })).toEqual({ requests: 1, amountPusd })
    })

    it("bills in the month of the request's id, whatever the host's clock says", async () => {
      const tenantId = newTenant()
      const request_id = createId('req', Date.UTC(2026, 10, 30, 23, 59))
      const inDecember = { started_at: '2026-12-01T00:00:02Z', ended_at: '2026-12-01T00:00:03Z' }
      await recordUsageEvents(db(), [
        createEvent(tenantId, { request_id, ...inDecember }),
        createEvent(tenantId, { request_id: `${tenantId}/x`, ...inDecember }),
      ])
      const totals = await usageTotals(db(), { tenantId, ...NOVEMBER, groupBy: ['day'] })
      expect(totals).toMatchObject([{ day: new Date('2026-11-30T00:00:00Z'), requests: 1 }])
    })

    it('is not blocked by text that PostgreSQL cannot hold', async () => {
      const tenantId = newTenant()
      const events = ['\u0000', '\ud800'].map((model) => createEvent(tenantId, { model }))
      expect(await recordUsageEvents(db(), events)).toEqual({ inserted: 2, known: 0 })
      const models = (await pageOf(db(), tenantId)).map((row) => row.model)
      expect(models).toEqual(['\ufffd', '\ufffd'])
    })

    it('sums tokens × price to the last pico-USD, however large', async () => {
      const price = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })
      const tokens = fc.nat({ max: Number.MAX_SAFE_INTEGER })
      const counts = fc.record({ prompt: tokens, cached: tokens, completion: tokens })
      const batch = fc.array(counts, { minLength: 1, maxLength: 8 })
      const isExact = fc.asyncProperty(price, price, price, batch, async (p, c, o, requests) => {
        const tenantId = newTenant()
        const base_model = await addBaseModel(db())
        const prices = { promptPusd: p, cachedPromptPusd: c, completionPusd: o }
        await addPrice(db(), { baseModel: base_model, ...prices })
        const events = requests.map(({ prompt, cached, completion }) =>
          createEvent(tenantId, {
            base_model,
            prompt_tokens: Math.max(prompt, cached),
            cached_prompt_tokens: Math.min(prompt, cached),
            completion_tokens: completion,
          }),
        )
        await recordUsageEvents(db(), events)
        const amountPusd = events.reduce((sum, event) => sum + costOfEvent(event, prices), 0n)
        expect(await ledgerTotals(db(), { tenantId })).toEqual({
          requests: events.length,
          amountPusd,
        })
      })
      await fc.assert(isExact, { numRuns: 40 })
    })
  })

  describe('usageByModel', () => {
    it('sums a period per model, its versions together', async () => {
      const tenantId = newTenant()
      const base_model = await addBaseModel(db())
      const events = [
        createEvent(tenantId, { base_model }),
        createEvent(tenantId, { base_model, model: 'support-bot@2' }),
        createEvent(tenantId, { base_model, model: base_model, model_id: null }),
      ]
      await recordUsageEvents(db(), events)
      const rows = await usageByModel(db(), { tenantId, ...NOVEMBER })
      const [event] = events
      expect(rows).toEqual([
        {
          adapterVersionId: null,
          model: base_model,
          requests: 1,
          promptTokens: 100,
          cachedPromptTokens: 40,
          completionTokens: 25,
          gpuUs: 1500,
          swapUs: 0,
          costPusd: event && costOfEvent(event),
        },
        {
          adapterVersionId: null,
          model: 'support-bot',
          requests: 2,
          promptTokens: 200,
          cachedPromptTokens: 80,
          completionTokens: 50,
          gpuUs: 3000,
          swapUs: 0,
          costPusd: event && 2n * costOfEvent(event),
        },
      ])
      const one = await usageByModel(db(), { tenantId, ...NOVEMBER, model: 'support-bot' })
      expect(one).toMatchObject([{ model: 'support-bot', requests: 2 }])
    })

    it('includes the start of a period and excludes its end', async () => {
      const tenantId = newTenant()
      const ends = [NOVEMBER.start, new Date(NOVEMBER.start.getTime() - 1), NOVEMBER.end]
      const events = ends.map((end) => createEvent(tenantId, { ended_at: end.toISOString() }))
      await recordUsageEvents(db(), events)
      expect(await usageByModel(db(), { tenantId, ...NOVEMBER })).toMatchObject([{ requests: 1 }])
    })

    it('refuses to round a sum', async () => {
      const tenantId = newTenant()
      const huge = { gpu_us: Number.MAX_SAFE_INTEGER }
      await recordUsageEvents(db(), [createEvent(tenantId, huge), createEvent(tenantId, huge)])
      await expect(usageByModel(db(), { tenantId, ...NOVEMBER })).rejects.toThrow(RangeError)
    })
  })

  describe('listUsageEvents', () => {
    it('pages through events of equal times without a gap or a repeat, newest first', async () => {
      const tenantId = newTenant()
      const times = ['2026-11-02T00:00:00Z', '2026-11-03T00:00:00Z', '2026-11-04T00:00:00Z']
      const events = times.flatMap((ended_at) =>
        Array.from({ length: 3 }, () => createEvent(tenantId, { ended_at })),
      )
      await recordUsageEvents(db(), events)
      const seen: UsagePosition[] = []
      for (;;) {
        const page = await listUsageEvents(db(), { tenantId, limit: 2, after: seen.at(-1) })
        seen.push(...page)
        if (page.length < 2) break
      }
      const expected = events
        .toSorted((a, b) => (a.request_id < b.request_id ? 1 : -1))
        .toSorted((a, b) => Date.parse(b.ended_at) - Date.parse(a.ended_at))
      expect(seen.map((row) => row.requestId)).toEqual(expected.map((event) => event.request_id))
    })
  })

  describe('listFedEntries', () => {
    it('goes on in the order of storing, however old a request is, and shows no other tenant', async () => {
      const tenantId = newTenant()
      await recordUsageEvents(db(), [createEvent(tenantId)])
      const begin = await feedEnd(db())
      const times = ['2026-11-04T00:00:00Z', '2026-11-02T00:00:00Z', '2026-11-03T00:00:00Z']
      const events = times.map((ended_at) => createEvent(tenantId, { ended_at }))
      for (const event of events) {
        await recordUsageEvents(db(), [event, createEvent(newTenant())])
      }
      const first = await listFedEntries(db(), { tenantId, after: begin, limit: 2 })
      const after = first.at(-1)?.position ?? begin
      const rest = await listFedEntries(db(), { tenantId, after, limit: 2 })
      const ids = [...first, ...rest].map(({ requestId }) => requestId)
      expect(ids).toEqual(events.map((event) => event.request_id))
      const only = rest.map(({ requestId, attempt }) => ({ requestId, attempt }))
      const rows = await listUsageEvents(db(), { tenantId, limit: 9, only })
      expect(rows.map(({ requestId }) => requestId)).toEqual([events[2]?.request_id])
      const end = rest.at(-1)?.position ?? after
      expect(await listFedEntries(db(), { tenantId, after: end, limit: 2 })).toEqual([])
    })
  })

  it("never shows one tenant another's usage", async () => {
    const [mine, theirs] = [newTenant(), newTenant()]
    const event = createEvent(theirs, { base_model: await addBaseModel(db()) })
    await recordUsageEvents(db(), [event])
    expect(await pageOf(db(), mine)).toEqual([])
    expect(await usageByModel(db(), { tenantId: mine, ...NOVEMBER })).toEqual([])
    expect(await ledgerTotals(db(), { tenantId: mine })).toEqual({ requests: 0, amountPusd: 0n })
    // Another tenant's event is no position in one's own list.
    await recordUsageEvents(db(), [createEvent(mine, { ended_at: '2026-10-01T00:00:00Z' })])
    const after = { requestId: event.request_id, attempt: event.attempt }
    const page = await listUsageEvents(db(), { tenantId: mine, limit: 9, after })
    expect(page).toEqual([])
  })
})
