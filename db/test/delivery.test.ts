/**
 * However usage arrives, the books are those of a clean delivery, byte for byte: events, transfers,
 * roll-ups and totals. `NOZZLE_DELIVERY_RUNS` asks for more than the few seeds of every run.
 */
import { sql } from 'drizzle-orm'
import { describe, expect, it } from 'vitest'
import type { Db } from '../database.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { usageTotals } from '../queries/usage-totals.ts'
import { describeOnEachDatabase } from './support/database.ts'
import {
  type Clocks,
  createDraw,
  deliverBadly,
  settleUsage,
  TRUE_CLOCKS,
  WRONG_CLOCKS,
} from './support/deliveries.ts'
import { addBaseModel } from './support/records.ts'

const RUNS = Number(process.env.NOZZLE_DELIVERY_RUNS ?? 2)
const EVENTS = 160
const SEED = 1
const ALL_TIME = { start: new Date('2026-10-01T00:00:00Z'), end: new Date('2027-01-01T00:00:00Z') }

/** What a run leaves, as text in which nothing tells one run from another. */
interface Books {
  readonly events: string
  readonly transfers: string
  readonly rollUps: string
  readonly totals: string
}

let runs = 0

async function keepBooks(
  db: Db,
  baseModel: string,
  clocks: Clocks,
  deliverySeed: number | null,
): Promise<Books> {
  const tag = `zq${String(++runs).padStart(6, '0')}`
  const tenantId = `ten_${tag}`
  const events = settleUsage({ seed: SEED, count: EVENTS, baseModel, tenantId, tag, clocks })
  if (deliverySeed === null) await deliverInOrder(db, events)
  else await deliverAtRandom(db, events, deliverySeed)
  await rollUpAll(db)
  return readBooks(db, tenantId, tag)
}

async function deliverInOrder(db: Db, events: Parameters<typeof recordUsageEvents>[1]) {
  for (let start = 0; start < events.length; start += 20) {
    await recordUsageEvents(db, events.slice(start, start + 20))
  }
}

/** Up to three batches at the same moment, and roll-ups in between. */
async function deliverAtRandom(
  db: Db,
  events: Parameters<typeof deliverBadly>[0],
  seed: number,
): Promise<void> {
  const draw = createDraw(seed)
  const batches = deliverBadly(events, seed)
  while (batches.length > 0) {
    const now = batches.splice(0, 1 + Math.floor(draw() * 3))
    await Promise.all(now.map((batch) => recordUsageEvents(db, batch)))
    if (draw() < 0.2) await rollUpUsage(db)
  }
}

/** A reversal that one roll-up writes is in the sums of the next. */
async function rollUpAll(db: Db): Promise<void> {
  for (;;) {
    const { entries, reversed } = await rollUpUsage(db)
    if (entries === 0 && reversed === 0) return
  }
}

async function readBooks(db: Db, tenantId: string, tag: string): Promise<Books> {
  const read = async (table: string, without: string, order: string): Promise<string> => {
    const { rows } = await db.execute<{ row: string }>(sql`
      select (to_jsonb(it) - ${`{${without}}`}::text[])::text as row
      from ${sql.identifier(table)} it where tenant_id = ${tenantId}
      order by ${sql.raw(order)}`)
    return rows.map(({ row }) => row.replaceAll(tag, '<run>')).join('\n')
  }
  const groupBy = ['day', 'model', 'keyId', 'adapterVersionId'] as const
  const totals = await usageTotals(db, { tenantId, ...ALL_TIME, groupBy })
  return {
    // What the database notes of the arrival itself is not the books'; nor is a host's own clock.
    events: await read(
      'usage_events',
      'received_at,ingest_xid,started_at,ended_at',
      'request_id, attempt',
    ),
    transfers: await read('ledger_entries', 'created_at,ingest_xid', 'id'),
    rollUps: await read(
      'usage_rollups',
      '',
      'hour, model, key_id, adapter_version_id, price_id, price_basis',
    ),
    totals: totals.map((row) => `${Object.values(row).join(' ')}\n`).join(''),
  }
}

describeOnEachDatabase((db) => {
  describe('books', () => {
    it('are the same after doubled, late and disordered delivery', async () => {
      const baseModel = await addBaseModel(db())
      const clean = await keepBooks(db(), baseModel, TRUE_CLOCKS, null)
      expect(clean.events.split('\n').length).toBeGreaterThan(EVENTS)
      expect(clean.transfers).toContain('usage_reversal')
      for (let seed = 1; seed <= RUNS; seed++) {
        const books = await keepBooks(db(), baseModel, TRUE_CLOCKS, seed)
        expect(books, `delivery seed ${seed}`).toEqual(clean)
      }
    })

    it('are the same whatever the clocks of the hosts say', async () => {
      const baseModel = await addBaseModel(db())
      const clean = await keepBooks(db(), baseModel, TRUE_CLOCKS, null)
      for (const [i, clocks] of WRONG_CLOCKS.entries()) {
        const books = await keepBooks(db(), baseModel, clocks, 100 + i)
        expect(books, `clocks ${i}`).toEqual(clean)
      }
    })
  })
})
