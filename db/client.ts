/**
 * Opens a database by URL, on Node: `pglite:memory`, `pglite:<directory>` or `postgres://…`. A
 * Worker opens Neon's with neon.ts; the queries are the same.
 */
import { fileURLToPath } from 'node:url'
import type { Database } from './database.ts'
import { DatabaseError } from './errors.ts'
import { openPglite } from './pglite.ts'
import { openPostgres } from './postgres.ts'

export type { Database, Db } from './database.ts'

const MIGRATIONS = fileURLToPath(new URL('./migrations', import.meta.url))

/**
 * Opens, and does not migrate. Throws `database_url_invalid`, and for a directory `database_locked`
 * while somebody has it open or `database_unavailable`. A server is first reached by the first
 * query.
 */
export async function openDatabase(url: string): Promise<Database> {
  const { scheme, rest } = /^(?<scheme>[a-z]+):(?<rest>.+)$/s.exec(url)?.groups ?? {}
  if (scheme === 'pglite' && rest) {
    return openPglite({ directory: rest === 'memory' ? null : rest, migrations: MIGRATIONS })
  }
  if (scheme === 'postgres' || scheme === 'postgresql') {
    return openPostgres({ url, migrations: MIGRATIONS })
  }
  // The URL may hold a password, so it is not repeated.
  throw new DatabaseError(
    'database_url_invalid',
    'the database URL must be pglite:<directory>, pglite:memory or postgres://…',
  )
}
