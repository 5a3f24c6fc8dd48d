/** How far a database is behind this release's migrations, or ahead of them. Changes nothing. */
import { readFileSync } from 'node:fs'
import { sql } from 'drizzle-orm'
import { z } from 'zod'
import type { Db } from './database.ts'

const journal = z.object({ entries: z.array(z.object({ when: z.int() })) })
const JOURNAL = new URL('./migrations/meta/_journal.json', import.meta.url)

export interface MigrationState {
  /** Of this release. */
  readonly known: number
  /** Of these, not applied there yet. */
  readonly missing: number
  /** Applied there, of a later release. */
  readonly unknown: number
}

/** Rejects when the database cannot be reached. */
export async function readMigrationState(db: Db): Promise<MigrationState> {
  const { entries } = journal.parse(JSON.parse(readFileSync(JOURNAL, 'utf8')))
  const known = entries.map(({ when }) => when)
  const table = await db.execute<{ name: string | null }>(
    sql`select to_regclass('drizzle.__drizzle_migrations')::text as name`,
  )
  if ((table.rows[0]?.name ?? null) === null) {
    return { known: known.length, missing: known.length, unknown: 0 }
  }
  const { rows } = await db.execute<{ at: string }>(
    sql`select created_at::text as at from drizzle.__drizzle_migrations`,
  )
  const applied = new Set(rows.map(({ at }) => Number(at)))
  return {
    known: known.length,
    missing: known.filter((when) => !applied.has(when)).length,
    unknown: [...applied].filter((when) => !known.includes(when)).length,
  }
}
