/**
 * What a query sees of a database, whichever driver is behind it. No transaction method: Neon's
 * HTTP driver has none, so every query is one statement. No node: imports.
 */
import type { PgDatabase, PgQueryResultHKT } from 'drizzle-orm/pg-core'
import type { Availability } from './availability.ts'
import type * as schema from './schema/index.ts'

/** What PGlite, node-postgres and Neon all return for a statement written as SQL. */
interface RowsResult extends PgQueryResultHKT {
  readonly type: Rows<this['row']>
}

interface Rows<Row> {
  readonly rows: readonly Row[]
}

/** First argument of every query. */
export type Db = Omit<PgDatabase<RowsResult, typeof schema>, 'transaction'>

export interface Database {
  readonly db: Db
  readonly kind: 'pglite' | 'postgres'
  /** Watches every statement of `db`. */
  readonly availability: Availability
  /** Applies what is missing of migrations/; safe to call from many processes at once. */
  migrate(): Promise<void>
  /** Idempotent. */
  close(): Promise<void>
}
