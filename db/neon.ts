/**
 * Neon's PostgreSQL over HTTP, for a Worker: one statement per request, no session, no interactive
 * transaction. Imports nothing of Node. Migrations are applied beforehand, through postgres.ts.
 */
import { neon } from '@neondatabase/serverless'
import { drizzle } from 'drizzle-orm/neon-http'
import { Availability, watch } from './availability.ts'
import type { Db } from './database.ts'
import * as schema from './schema/index.ts'

/** Of a statement whose connection silently died; a database that hangs is noticed much earlier. */
const STATEMENT_MS_MAX = 60_000
const PROBE_MS_MAX = 2000

export function openNeonDatabase(url: string): { db: Db; availability: Availability } {
  const client = neon(url)
  const send = client.query.bind(client)
  const query = (text: string, values?: unknown[], options: object = {}, ms = STATEMENT_MS_MAX) =>
    send(text, values, { ...options, fetchOptions: { signal: AbortSignal.timeout(ms) } })
  const availability = new Availability({ probe: () => query('select 1', [], {}, PROBE_MS_MAX) })
  const watched = Object.assign(client, { query: watch(availability, query) })
  return { db: drizzle({ client: watched, schema }), availability }
}
