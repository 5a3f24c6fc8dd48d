/** The database's clock, which decides what belongs to which period. */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'

/** Unix milliseconds, now and not when a transaction began. */
export async function databaseTimeMs(db: Db): Promise<number> {
  const { rows } = await db.execute<{ ms: string }>(
    sql`select (extract(epoch from clock_timestamp()) * 1000)::text as ms`,
  )
  const ms = Number(rows[0]?.ms)
  if (!Number.isFinite(ms)) throw new Error('the database did not say what time it is')
  return ms
}
