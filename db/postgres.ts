/** A PostgreSQL server, through a pool of connections. Many edges may share one database. */
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import type { Database } from './database.ts'
import * as schema from './schema/index.ts'

export interface PostgresOptions {
  readonly url: string
  readonly migrations: string
}

const CONNECTIONS_MAX = 10
const CONNECT_TIMEOUT_MS = 10_000
/** Names the migration lock among all advisory locks of a database: "nozzle" in ASCII. */
const MIGRATION_LOCK = 0x6e6f7a7a6c65

export async function openPostgres(options: PostgresOptions): Promise<Database> {
  const pool = createPool(options.url)
  let closing: Promise<void> | null = null
  return {
    db: drizzle({ client: pool, schema }),
    kind: 'postgres',
    migrate: () => migrateLocked(pool, options.migrations),
    close: () => {
      closing ??= pool.end()
      return closing
    },
  }
}

/** Connects when first used. */
export function createPool(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  })
  // A connection that breaks fails its statement, and the pool replaces it. Without a listener,
  // also while the pool is closing, it would end the process instead.
  const ignore = () => {}
  pool.on('error', ignore)
  pool.on('connect', (client) => client.on('error', ignore))
  return pool
}

/** Processes that start together migrate one after the other; the later ones find nothing to do. */
async function migrateLocked(pool: pg.Pool, migrationsFolder: string): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await migrate(drizzle({ client }), { migrationsFolder })
  } finally {
    // Ends the session, and the lock with it, whatever state a failed migration left behind.
    client.release(true)
  }
}
