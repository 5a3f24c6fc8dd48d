import { sql } from 'drizzle-orm'
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { ledgerTotals, usageTotals } from '../queries/usage-totals.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addBaseModel, createEvent } from './support/records.ts'

const NOVEMBER = { start: new Date('2026-11-01T00:00:00Z'), end: new Date('2026-12-01T00:00:00Z') }

describeOnEachDatabase((db) => {
  describe('usageTotals', () => {
    it('says the same before a roll-up, after it, and after what came since', async () => {
      const tenantId = createId('ten')
      const base_model = await addBaseModel(db())
      const events = Array.from({ length: 50 }, (_, i) =>
        createEvent(tenantId, {
          base_model,
          model: `bot-${i % 3}`,
          key_id: i % 2 === 0 ? null : 'key_1',
          ended_at: new Date(Date.UTC(2026, 10, 1 + (i % 4), i % 24, 30)).toISOString(),
        }),
      )
      const query = { tenantId, ...NOVEMBER, groupBy: ['day', 'model', 'keyId'] as const }
      await recordUsageEvents(db(), events.slice(0, 25))
      const half = await usageTotals(db(), query)
      await rollUpUsage(db())
      expect(await usageTotals(db(), query)).toEqual(half)
      await recordUsageEvents(db(), events)
      const all = await usageTotals(db(), query)
      await rollUpUsage(db())
      await rollUpUsage(db())
      expect(await usageTotals(db(), query)).toEqual(all)
      expect(all.reduce((sum, row) => sum + row.requests, 0)).toBe(50)
      expect(all).toHaveLength(12)
    })

    it('takes a superseded attempt out of the roll-ups again', async () => {
      const tenantId = createId('ten')
      const event = createEvent(tenantId, { base_model: await addBaseModel(db()) })
      await recordUsageEvents(db(), [event])
      await rollUpUsage(db())
      await recordUsageEvents(db(), [{ ...event, attempt: 2, prompt_tokens: 7 }])
      await rollUpUsage(db())
      const [sums] = await usageTotals(db(), { tenantId, ...NOVEMBER })
      expect(sums).toMatchObject({ requests: 1, promptTokens: 7, completionTokens: 25 })
    })

    it('cuts an hour to the millisecond, rolled up or not', async () => {
      const tenantId = createId('ten')
      const at = (ms: number) => new Date(Date.UTC(2026, 10, 5, 10) + ms)
      const ms = [0, 1, 1_800_000, 3_599_999, 3_600_000, 7_200_000, 9_000_000]
      const events = ms.map((m) => createEvent(tenantId, { ended_at: at(m).toISOString() }))
      await recordUsageEvents(db(), events)
      for (const isRolledUp of [false, true]) {
        if (isRolledUp) await rollUpUsage(db())
        for (const start of ms) {
          for (const end of ms.filter((m) => m > start)) {
            const period = { tenantId, start: at(start), end: at(end) }
            const [sums] = await usageTotals(db(), period)
            expect(sums?.requests).toBe(ms.filter((m) => m >= start && m < end).length)
          }
        }
      }
    })

    it('filters by any of several values, and by none', async () => {
      const tenantId = createId('ten')
      const models = ['a', 'a@2', 'b', 'c']
      await recordUsageEvents(
        db(),
        models.map((model) => createEvent(tenantId, { model })),
      )
      const requests = async (model: string[]) =>
        (await usageTotals(db(), { tenantId, ...NOVEMBER, filters: { model } }))[0]?.requests
      expect(await requests(['a', 'c'])).toBe(3)
      expect(await requests(['nobody'])).toBe(0)
      expect(await requests([])).toBe(0)
    })
  })

  describe('rollUpUsage', () => {
    it('goes on in a database that was restored from a dump', async () => {
      const tenantId = createId('ten')
      await recordUsageEvents(db(), [createEvent(tenantId)])
      await rollUpUsage(db())
      // What a dump brings along: a watermark far above the new server's transactions.
      await db().execute(sql`update rollup_state set watermark = watermark + 1000000`)
      const event = createEvent(tenantId)
      await expect(recordUsageEvents(db(), [event])).rejects.toMatchObject({
        cause: { code: '55000' },
      })
      await rollUpUsage(db())
      expect(await recordUsageEvents(db(), [event])).toEqual({ inserted: 1, known: 0 })
      await rollUpUsage(db())
      expect((await ledgerTotals(db(), { tenantId })).requests).toBe(2)
    })
  })
})
