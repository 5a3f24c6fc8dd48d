/**
 * A process of its own that opens the database in argv[2], says what it finds of the batches that
 * it or those before it wrote, and writes on from batch argv[3] until it is killed, saying which
 * batch is stored. Batch n has `batchSize(n)` events of known tokens; every few are rolled up.
 */
import { sql } from 'drizzle-orm'
import { z } from 'zod'
import { openDatabase } from '../../client.ts'
import type { Db } from '../../database.ts'
import { timeSigns } from '../../ids.ts'
import { recordUsageEvents } from '../../queries/usage.ts'
import { rollUpUsage } from '../../queries/usage-rollups.ts'
import { usageTotals } from '../../queries/usage-totals.ts'
import { createEvent } from './records.ts'

const TENANT = 'ten_writer'
const MONTH = { start: new Date('2026-10-01T00:00:00Z'), end: new Date('2026-12-01T00:00:00Z') }
const BATCHES_PER_ROLL_UP = 3

const batchSize = (batch: number) => 1 + ((batch * 7) % 20)
const completionTokens = (batch: number, i: number) => batch + i

/** What a reopened database says: of each batch, and in all by two independent ways. */
export const foundMessage = z.object({
  type: z.literal('found'),
  /** Events of a batch, entries of them, tokens of completion. */
  batches: z.array(
    z.object({
      batch: z.number(),
      events: z.number(),
      entries: z.number(),
      tokens: z.number(),
    }),
  ),
  totals: z.object({ requests: z.number(), completionTokens: z.number(), costPusd: z.string() }),
  entriesPusd: z.string(),
})
export const storedMessage = z.object({ type: z.literal('stored'), batch: z.number() })

/** What batch `n` must come to. */
export function expectedBatch(batch: number): z.infer<typeof foundMessage>['batches'][number] {
  const events = batchSize(batch)
  let tokens = 0
  for (let i = 0; i < events; i++) tokens += completionTokens(batch, i)
  return { batch, events, entries: events, tokens }
}

function eventsOf(batch: number) {
  return Array.from({ length: batchSize(batch) }, (_, i) => {
    const place = String(batch * 100 + i).padStart(16, '0')
    return createEvent(TENANT, {
      request_id: `req_${timeSigns(MONTH.start.getTime())}${place}`,
      model: `batch-${batch}`,
      completion_tokens: completionTokens(batch, i),
    })
  })
}

async function look(db: Db): Promise<z.infer<typeof foundMessage>> {
  const { rows } = await db.execute(sql`
    select substr(event.model, 7)::int as batch, count(*)::int as events,
      count(entry.id)::int as entries, sum(event.completion_tokens)::int as tokens
    from usage_events event
    left join ledger_entries entry on entry.request_id = event.request_id
    group by event.model order by 1`)
  const sum = await db.execute(sql`select coalesce(sum(amount_pusd), 0)::text as pusd
    from ledger_entries`)
  const [totals] = await usageTotals(db, { tenantId: TENANT, ...MONTH })
  return foundMessage.parse({
    type: 'found',
    batches: rows,
    totals: {
      requests: totals?.requests ?? 0,
      completionTokens: totals?.completionTokens ?? 0,
      costPusd: String(totals?.costPusd ?? 0n),
    },
    entriesPusd: sum.rows[0]?.pusd,
  })
}

async function writeUntilKilled(directory: string, first: number): Promise<void> {
  const { db, migrate } = await openDatabase(`pglite:${directory}`)
  await migrate()
  process.send?.(await look(db))
  for (let batch = first; ; batch++) {
    await recordUsageEvents(db, eventsOf(batch))
    process.send?.({ type: 'stored', batch })
    if (batch % BATCHES_PER_ROLL_UP === 0) await rollUpUsage(db)
  }
}

const [, , directory, first] = process.argv
if (process.send !== undefined && directory !== undefined) {
  await writeUntilKilled(directory, Number(first))
}
