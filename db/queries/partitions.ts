/** Months of usage events and ledger entries, made ahead of the ids that will lie in them. */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'

const MONTHS_AHEAD = 3
const TABLES = ['usage_events', 'ledger_entries']

/**
 * Makes what is missing from the month before `now` to three months after it; returns how many
 * partitions were made. Safe to call from many processes at once, and costs next to nothing when
 * there is nothing to do. Where a month is missing all the same, its rows go to the default
 * partition and stay there.
 */
export async function ensurePartitions(db: Db, now: Date): Promise<number> {
  let made = 0
  for (const table of TABLES) {
    const { rows } = await db.execute<{ made: number }>(sql`
      select ensure_ledger_months(${table}::text, ${now.toISOString()}::timestamptz,
        ${MONTHS_AHEAD}::integer) as made`)
    made += rows[0]?.made ?? 0
  }
  return made
}
