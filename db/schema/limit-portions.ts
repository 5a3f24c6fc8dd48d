/**
 * What edges hold at the moment of limits that many of them share: a portion is taken from here and
 * spent without asking. The sum of the rows of a scope and kind that have not expired never passes
 * the limit; take_portions() in migrations/ sees to it. Unlogged: after a crash of the database a
 * minute's counts begin anew.
 */
import { pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { count, time } from './columns.ts'

export const limitPortions = pgTable(
  'limit_portions',
  {
    /** A tenant's or a key's id. */
    scopeId: text('scope_id').notNull(),
    kind: text('kind').$type<PortionKind>().notNull(),
    /** Process or isolate that holds it. */
    edgeId: text('edge_id').notNull(),
    /** Rates: number of the 5 seconds, since 1970, in which it may be used. `concurrency`: 0. */
    slice: count('slice').notNull(),
    /** Requests or tokens. */
    units: count('units').notNull(),
    /**
     * Until then it counts. Rates: 60 s after the slice's end. `concurrency`: unless the edge says
     * that it is still there.
     */
    expiresAt: time('expires_at').notNull(),
  },
  (table) => [
    // take_portions: the sum of a scope and kind.
    primaryKey({ columns: [table.scopeId, table.kind, table.edgeId, table.slice] }),
  ],
)

export type PortionKind = 'requests' | 'tokens' | 'concurrency'
