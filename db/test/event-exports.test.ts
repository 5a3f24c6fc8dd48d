import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDatabase } from '../client.ts'
import type { Database } from '../database.ts'
import { createId } from '../ids.ts'
import {
  advanceExport,
  claimExport,
  type ExportPosition,
  listEntriesToExport,
  releaseExport,
} from '../queries/event-exports.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import * as schema from '../schema/index.ts'
import { describeOnEachDatabase, NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'
import { createEvent } from './support/records.ts'

const START: ExportPosition = { ingestXid: '0', entryId: '' }

describeOnEachDatabase((db) => {
  describe('an export', () => {
    it('is one claimant’s until it is released or has lapsed, and goes on where it came to', async () => {
      const self = { exportId: createId('led'), claimant: 'a' }
      const other = { ...self, claimant: 'b' }
      const forMs = 60_000
      expect(await claimExport(db(), { ...self, forMs })).toEqual({ position: START, failures: 0 })
      expect(await claimExport(db(), { ...other, forMs })).toBeNull()
      const position = { ingestXid: '7', entryId: 'req_1/1/usage' }
      const refused = [{ entryId: 'req_0/1/usage', reason: '400: "why" \\ not' }]
      expect(await advanceExport(db(), { ...other, position, refused, forMs })).toBe(false)
      expect(await advanceExport(db(), { ...self, position, refused, forMs })).toBe(true)
      const letters = await db().execute(sql`select entry_id as "entryId", reason
        from event_dead_letters where export_id = ${self.exportId}`)
      expect(letters.rows).toEqual(refused)
      await releaseExport(db(), { ...self, retryMs: null })
      expect(await claimExport(db(), { ...other, forMs: -1 })).toEqual({ position, failures: 0 })
      expect(await claimExport(db(), { ...self, forMs })).toMatchObject({ position })
      await releaseExport(db(), { ...self, retryMs: 60_000 })
      expect(await claimExport(db(), { ...other, forMs })).toBeNull()
      await db().execute(sql`update event_exports set retry_at = now()
        where id = ${self.exportId}`)
      expect(await claimExport(db(), { ...other, forMs })).toEqual({ position, failures: 1 })
    })

    it('lists charges and reversals once each, whatever the size of the page', async () => {
      const events = Array.from({ length: 11 }, () => createEvent(createId('ten')))
      await recordUsageEvents(db(), events)
      await recordUsageEvents(
        db(),
        events.slice(0, 4).map((event) => ({ ...event, attempt: 2 })),
      )
      const whole = await listEntriesToExport(db(), START, 1000)
      expect(whole.filter(({ kind }) => kind === 'usage_reversal')).toHaveLength(4)
      expect(whole).toHaveLength(11 + 4 + 4)
      expect(new Set(whole.map(({ entryId }) => entryId)).size).toBe(whole.length)
      const paged: typeof whole = []
      for (;;) {
        const page = await listEntriesToExport(db(), paged.at(-1) ?? START, 3)
        if (page.length === 0) break
        paged.push(...page)
      }
      expect(paged).toEqual(whole)
    })
  })
})

const SKIPPED = POSTGRES === null ? ` (${NO_POSTGRES})` : ''
describe.skipIf(POSTGRES === null)(`with open transactions${SKIPPED}`, () => {
  let server: PostgresServer
  let database: Database
  let slow: pg.Client
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    database = await openDatabase(server.url)
    await database.migrate()
    slow = new pg.Client(server.url)
    await slow.connect()
  })
  afterAll(async () => {
    await slow.end()
    await database.close()
    await server.stop()
  })

  it('skips nothing that commits after what was written later', async () => {
    const { db } = database
    const [early, late] = [createEvent(createId('ten')), createEvent(createId('ten'))]
    const idsFrom = async (position: ExportPosition) =>
      (await listEntriesToExport(db, position, 100)).map(({ requestId }) => requestId)
    await slow.query('begin')
    await recordUsageEvents(drizzle({ client: slow, schema }), [early])
    await recordUsageEvents(db, [late])
    expect(await idsFrom(START)).toEqual([])
    await slow.query('commit')
    expect(await idsFrom(START)).toEqual([early.request_id, late.request_id])
  })
})
