/** Each suite on every database. Its tests share the books with others, so it looks at changes. */
import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import { readBookLag } from '../queries/book-lag.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, createEvent } from './support/records.ts'

const MINUTE_MS = 60_000

describeOnEachDatabase((db) => {
  describe('readBookLag', () => {
    it('is of the oldest charge that no roll-up holds, and of the latest usage', async () => {
      const { id } = await addTenant(db())
      await rollUpUsage(db())
      const endMs = Date.now() - 10 * MINUTE_MS
      const since = new Date(endMs)
      const ended_at = new Date(endMs).toISOString()
      const event = createEvent(id, { request_id: createId('req', endMs), ended_at })
      await recordUsageEvents(db(), [event])
      const behind = await readBookLag(db(), { since })
      expect(behind.rollupS).toBeGreaterThanOrEqual(600)
      expect(behind.usageS).toBeGreaterThanOrEqual(600)
      expect(behind.deadLetters).toBe(0)
      await rollUpUsage(db())
      expect(await readBookLag(db(), { since })).toMatchObject({ rollupS: null })
      const later = new Date(Date.now() + MINUTE_MS)
      expect(await readBookLag(db(), { since: later })).toMatchObject({ usageS: null })
    })
  })
})
