/** How far the books are behind what happened: for whoever runs the pool to look at. */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { timeSigns } from '../ids.ts'

export interface BookLag {
  /** Age in seconds of the oldest charge that no roll-up holds yet; null = they hold all. */
  readonly rollupS: number | null
  /**
   * The longest that the usage of a request since `since` took from its end to the ledger, in
   * seconds; null = there was none. By two clocks: the host's and the database's.
   */
  readonly usageS: number | null
  /** CloudEvents that their receiver would not take. */
  readonly deadLetters: number
}

type Row = { rollup_s: number | null; usage_s: number | null; dead_letters: number }

export async function readBookLag(db: Db, { since }: { readonly since: Date }): Promise<BookLag> {
  const { rows } = await db.execute<Row>(sql`
    select
      (select extract(epoch from now() - min(occurred_at))::double precision
        from ledger_entries
        where ingest_xid >= (select watermark from rollup_state)
          and kind in ('usage', 'usage_reversal')) as rollup_s,
      (select extract(epoch from max(received_at - ended_at))::double precision
        from usage_events
        where request_id >= ${`req_${timeSigns(since.getTime())}`} and source = 'engine')
        as usage_s,
      (select count(*)::integer from event_dead_letters) as dead_letters`)
  const [row] = rows
  return {
    rollupS: row?.rollup_s ?? null,
    usageS: row?.usage_s ?? null,
    deadLetters: row?.dead_letters ?? 0,
  }
}
