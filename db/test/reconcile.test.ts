/**
 * That the checks run, and find nothing in books that are right, on every database. What they find
 * in false ones: scripts/commands/reconcile.test.ts.
 */
import { sql } from 'drizzle-orm'
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { listBookDifferences, listBookedEvents } from '../queries/reconcile.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addBaseModel, createEvent } from './support/records.ts'

const JUNE = { start: new Date('2026-06-01T00:00:00Z'), end: new Date('2026-07-01T00:00:00Z') }

describeOnEachDatabase((db) => {
  describe('the books', () => {
    it('agree after retries, late events and roll-ups, and differ once one is changed', async () => {
      const base_model = await addBaseModel(db())
      const tenantId = createId('ten')
      const events = Array.from({ length: 20 }, (_, i) =>
        createEvent(tenantId, {
          base_model: i % 5 === 0 ? 'priced by nobody' : base_model,
          ended_at: new Date(Date.UTC(2026, 5, 1 + i, i)).toISOString(),
        }),
      )
      await recordUsageEvents(db(), events)
      expect(await listBookDifferences(db(), JUNE, 100)).toEqual([])
      await rollUpUsage(db())
      const again = events.slice(0, 5).map((event) => ({ ...event, attempt: 2 }))
      await recordUsageEvents(db(), again)
      await rollUpUsage(db())
      await rollUpUsage(db())
      expect(await listBookDifferences(db(), JUNE, 100)).toEqual([])
      await db().execute(sql`update usage_rollups set amount_pusd = amount_pusd + 1
        where tenant_id = ${tenantId} and hour = '2026-06-08T07:00:00Z'`)
      const [difference, ...others] = await listBookDifferences(db(), JUNE, 100)
      expect(others).toEqual([])
      expect(difference).toMatchObject({
        kind: 'rollup_wrong',
        tenantId,
        subject: 'support-bot at 2026-06-08T07:00Z',
        field: 'amount_pusd',
      })
      const { ledger = '', rollups = '' } = difference?.books ?? {}
      expect(BigInt(rollups ?? '') - BigInt(ledger ?? '')).toBe(1n)
    })

    it('show every event with its charge, page by page', async () => {
      const whole = await listBookedEvents(db(), { ...JUNE, after: null, limit: 1000 })
      expect(whole).toHaveLength(25)
      expect(whole.filter(({ isReversed }) => isReversed)).toHaveLength(5)
      const paged: typeof whole = []
      for (;;) {
        const after = paged.at(-1)?.event ?? null
        const page = await listBookedEvents(db(), { ...JUNE, after, limit: 7 })
        if (page.length === 0) break
        paged.push(...page)
      }
      expect(paged).toEqual(whole)
    })
  })
})
