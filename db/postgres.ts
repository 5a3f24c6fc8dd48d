/** A PostgreSQL server, through a pool of connections. Many edges may share one database. */
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import { Availability, watch } from './availability.ts'
import type { Database } from './database.ts'
import * as schema from './schema/index.ts'
import { withinTime } from './within-time.ts'

export interface PostgresOptions {
  readonly url: string
  readonly migrations: string
}

const CONNECTIONS_MAX = 10
/** To connect, and to wait for a connection that is free. */
const CONNECT_TIMEOUT_MS = 10_000
/** Of a statement whose connection silently died; a database that hangs is noticed much earlier. */
const STATEMENT_MS_MAX = 60_000
const PROBE_MS_MAX = 2000
/** Connections that a hanging server does not close are left to the end of the process. */
const CLOSE_MS_MAX = 5000
/** Names the migration lock among all advisory locks of a database: "nozzle" in ASCII. */
const MIGRATION_LOCK = 0x6e6f7a7a6c65

export async function openPostgres(options: PostgresOptions): Promise<Database> {
  const { url, migrations } = options
  let pool = createPool(url)
  let closing: Promise<unknown> | null = null
  const availability = new Availability({
    probe: () => probe(url),
    // After an outage nobody can tell which connections still lead anywhere.
    onDown: () => {
      if (closing !== null) return
      const old = pool
      pool = createPool(url)
      void old.end()
    },
  })
  return {
    db: drizzle({ client: watchPool(availability, () => pool), schema }),
    kind: 'postgres',
    availability,
    migrate: () => migrateLocked(url, migrations),
    close: async () => {
      closing ??= withinTime(pool.end(), CLOSE_MS_MAX)
      await closing
    },
  }
}

/** Connects when first used. */
export function createPool(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: CONNECTIONS_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: STATEMENT_MS_MAX,
    keepAlive: true,
  })
  // A connection that breaks fails its statement, and the pool replaces it. Without a listener,
  // also while the pool is closing, it would end the process instead.
  const ignore = () => {}
  pool.on('error', ignore)
  pool.on('connect', (client) => client.on('error', ignore))
  return pool
}

/** A pool as far as drizzle uses one for statements: whichever is the current one, watched. */
function watchPool(availability: Availability, current: () => pg.Pool): pg.Pool {
  const facade: Pick<pg.Pool, 'query'> = Object.create(pg.Pool.prototype)
  const query = (...parameters: [pg.QueryConfig, unknown[]]) => current().query(...parameters)
  return Object.assign(facade, { query: watch(availability, query) }) as pg.Pool
}

/** On a connection of its own: those of the pool may all be waiting. */
async function probe(url: string): Promise<void> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: PROBE_MS_MAX,
    query_timeout: PROBE_MS_MAX,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select 1')
  } finally {
    void client.end().catch(() => {})
  }
}

/** Processes that start together migrate one after the other; the later ones find nothing to do. */
async function migrateLocked(url: string, migrationsFolder: string): Promise<void> {
  // Not of the pool: rewriting a large table takes longer than any other statement may.
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await migrate(drizzle({ client }), { migrationsFolder })
  } finally {
    // Ends the session, and the lock with it, whatever state a failed migration left behind.
    await client.end()
  }
}
