/**
 * Money movements, append-only. Each is a transfer between two accounts, so debits equal credits by
 * construction and no movement can be half there. Unrounded; rounding is the invoice's. Partitioned
 * like usage events: an entry of a request lies in the month of the request's id, all others in the
 * default partition, so that a month goes to the archive as a whole.
 */
import { sql } from 'drizzle-orm'
import { check, index, pgTable, smallint, text } from 'drizzle-orm/pg-core'
import { bytewiseText, count, createdAt, pusd, time } from './columns.ts'

export const ledgerEntries = pgTable(
  'ledger_entries',
  {
    /**
     * Says what the movement is of, so that no movement can be written twice: of a request
     * `<request id>/<attempt>/<kind>`.
     */
    id: bytewiseText('id').primaryKey(),
    kind: text('kind').$type<LedgerEntryKind>().notNull(),
    /**
     * `unbilled/<tenant id>`, `receivable/<tenant id>`, `rounding/<tenant id>` or
     * `revenue/<base model>`.
     */
    debitAccount: text('debit_account').notNull(),
    creditAccount: text('credit_account').notNull(),
    /** Never below 0: the way back is a transfer of its own. Of usage: exact, 0 when unpriced. */
    amountPusd: pusd('amount_pusd').notNull(),
    /** Whose movement it is. No foreign key, as with usage events. */
    tenantId: text('tenant_id').notNull(),
    /** NULL = not a request's. */
    requestId: bytewiseText('request_id'),
    /** NULL = not a request's. */
    attempt: smallint('attempt'),
    /** The price that was applied; NULL = unpriced, or no usage. Prices are never deleted. */
    priceId: text('price_id'),
    /** How that price was found; NULL = no usage. */
    priceBasis: text('price_basis').$type<PriceBasis>(),
    /** Billing time of the usage event; else when the movement came about. */
    occurredAt: time('occurred_at').notNull(),
    /**
     * The transaction that wrote it, counted as ledger_xid() counts: entries below the horizon of
     * the transactions still open are all there, which is what lets a reader go on from where it
     * stopped and miss none.
     */
    ingestXid: count('ingest_xid').notNull().default(sql`ledger_xid()`),
    createdAt: createdAt(),
  },
  (table) => [
    check('ledger_entries_amount', sql`amount_pusd >= 0`),
    // rollUpUsage and usageTotals: what came in since the roll-up's watermark.
    index('ledger_entries_ingest').on(table.ingestXid),
    // usageTotals: the hours that a period cuts.
    index('ledger_entries_tenant_occurred').on(table.tenantId, table.occurredAt),
  ],
)

/**
 * `usage` = what an attempt cost. `usage_reversal` = the way back of an attempt's charge, because a
 * later attempt of the request is charged. `invoice` = unbilled → receivable. `rounding` = what an
 * invoice's line was rounded by.
 */
export type LedgerEntryKind = 'usage' | 'usage_reversal' | 'invoice' | 'rounding'

/**
 * `named` = the version that the event names. `current` = the event names none, or one that is
 * unknown for its base model; the current one applied. `unpriced` = nobody knows the base model:
 * charged zero, for the operator to look at.
 */
export type PriceBasis = 'named' | 'current' | 'unpriced'
export type LedgerEntry = typeof ledgerEntries.$inferSelect
