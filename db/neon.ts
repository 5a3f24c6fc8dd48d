/**
 * Neon's PostgreSQL over HTTP, for a Worker: one statement per request, no session, no interactive
 * transaction. Imports nothing of Node. Migrations are applied beforehand, through postgres.ts.
 */
import { neon } from '@neondatabase/serverless'
import { drizzle } from 'drizzle-orm/neon-http'
import type { Db } from './database.ts'
import * as schema from './schema/index.ts'

export function openNeonDatabase(url: string): Db {
  return drizzle({ client: neon(url), schema })
}
