/**
 * PostgreSQL inside the process (PGlite), in memory or in a directory that is locked for as long as
 * it is open. One connection, so statements run one after the other.
 */
import { mkdirSync } from 'node:fs'
import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import { Availability, watch } from './availability.ts'
import type { Database } from './database.ts'
import { lockDirectory } from './directory-lock.ts'
import { DurableDirectory, START_PARAMS } from './durable-directory.ts'
import { DatabaseError } from './errors.ts'
import * as schema from './schema/index.ts'

export interface PgliteOptions {
  /** null = in memory. */
  readonly directory: string | null
  readonly migrations: string
}

/** PGlite has no autovacuum; tables that are updated all the time would grow for ever. */
const UPDATED_TABLES = 'hosts, limit_portions, spend_leases, usage_rollups, rollup_state'
const VACUUM_INTERVAL_MS = 300_000

export async function openPglite(options: PgliteOptions): Promise<Database> {
  const { directory, migrations } = options
  const unlock = directory === null ? () => {} : lockDirectory(directory)
  try {
    const client = await startPglite(directory)
    const query = client.query.bind(client)
    const availability = new Availability({ probe: () => query('select 1'), canHang: false })
    client.query = watch(availability, query)
    const db = drizzle({ client, schema })
    // A failure is not lost: the disk that refuses a vacuum refuses the next statement too.
    const vacuum = () => void client.exec(`vacuum ${UPDATED_TABLES}`).catch(() => {})
    const timer = setInterval(vacuum, VACUUM_INTERVAL_MS).unref()
    let closing: Promise<void> | null = null
    return {
      db,
      kind: 'pglite',
      availability,
      migrate: () => migrate(db, { migrationsFolder: migrations }),
      close: () => {
        clearInterval(timer)
        closing ??= client.close().finally(unlock)
        return closing
      },
    }
  } catch (error) {
    unlock()
    throw new DatabaseError('database_unavailable', 'the database could not be opened', error)
  }
}

async function startPglite(directory: string | null): Promise<PGlite> {
  if (directory === null) return PGlite.create()
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  return PGlite.create({ fs: new DurableDirectory(directory), startParams: [...START_PARAMS] })
}
