/**
 * Money movements, append-only: one per usage event, written in the statement that stored the
 * event, never changed after. The unrounded amount; rounding is the invoice's.
 */
import { index, pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt, pusd, time } from './columns.ts'
import { prices } from './prices.ts'
import { usageEvents } from './usage-events.ts'

export const ledgerEntries = pgTable(
  'ledger_entries',
  {
    /** `led_…` */
    id: text('id').primaryKey(),
    /** Who owes it. No foreign key, as with usage events. */
    tenantId: text('tenant_id').notNull(),
    /** The usage event that is charged. Its unique index also serves the join from events. */
    requestId: text('request_id')
      .notNull()
      .unique()
      .references(() => usageEvents.requestId),
    /** Tokens × price in pico-USD, exact; 0 when unpriced. Computed by the database. */
    amountPusd: pusd('amount_pusd').notNull(),
    /** The price that was applied; NULL = unpriced. */
    priceId: text('price_id').references(() => prices.id),
    /** How that price was found. */
    priceBasis: text('price_basis').$type<PriceBasis>().notNull(),
    /** When the charged request ended: the event's own time, host's clock. */
    occurredAt: time('occurred_at').notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    // ledgerTotals: what a tenant owes, in all or in a period.
    index('ledger_entries_tenant_occurred').on(table.tenantId, table.occurredAt),
  ],
)

/**
 * `named` = the version that the event names. `current` = the event names none, or one that is
 * unknown for its base model; the current one applied. `unpriced` = nobody knows the base model:
 * charged zero, for the operator to look at.
 */
export type PriceBasis = 'named' | 'current' | 'unpriced'
export type LedgerEntry = typeof ledgerEntries.$inferSelect
