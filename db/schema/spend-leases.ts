/**
 * Parts of a month's budget that edges hold. While a lease is open, what of it was not charged yet
 * is not available to others: a budget has cap − charges − Σ (amount − posted). The statement that
 * stores a charge posts it here, so that the money is never counted twice, nor free in between.
 */
import { sql } from 'drizzle-orm'
import { boolean, index, pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt, pusd, time } from './columns.ts'

export const spendLeases = pgTable(
  'spend_leases',
  {
    /** `lea_…`, chosen by the edge, and named by the requests that it admits. */
    id: text('id').primaryKey(),
    /** A tenant's or a key's id. */
    scopeId: text('scope_id').notNull(),
    /** `YYYY-MM` in UTC: of the requests' ids. */
    month: text('month').notNull(),
    /** Held at most. Shrinks to what its requests really cost, as the edge learns it. */
    amountPusd: pusd('amount_pusd').notNull(),
    /** Charges that named the lease, less their reversals; written by recordUsageEvents. */
    postedPusd: pusd('posted_pusd').notNull().default(sql`0`),
    /** The edge is done with it: `amount_pusd` is what its requests cost. */
    isReturned: boolean('is_returned').notNull().default(false),
    /** From then on it is taken for a dead edge's, and closed at what was posted. */
    expiresAt: time('expires_at').notNull(),
    createdAt: createdAt(),
    /** NULL = open. A closed lease holds nothing. */
    closedAt: time('closed_at'),
  },
  (table) => [
    // take_portions: what is held of a month's budget. closeSpendLeases: the open ones.
    index('spend_leases_open').on(table.scopeId, table.month).where(sql`closed_at is null`),
  ],
)

export type SpendLease = typeof spendLeases.$inferSelect
