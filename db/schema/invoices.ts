/**
 * What a tenant is billed for a month. A draft holds no sums: its lines are reckoned from usage
 * that no invoice has taken yet, so late events still count. finalizeInvoice writes the rest,
 * once; from then on a trigger refuses any change.
 */
import { sql } from 'drizzle-orm'
import { check, integer, pgTable, text, unique } from 'drizzle-orm/pg-core'
import { createdAt, pusd, time, total } from './columns.ts'
import { tenants } from './tenants.ts'

export const invoices = pgTable(
  'invoices',
  {
    /** `inv_…` */
    id: text('id').primaryKey(),
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.id),
    /** 1, 2, 3 … per tenant, without gaps, in the order of finalizing. NULL = draft. */
    number: integer('number'),
    status: text('status').$type<InvoiceStatus>().notNull(),
    /** First moment of the month, UTC. */
    periodStart: time('period_start').notNull(),
    /** First moment of the next month. */
    periodEnd: time('period_end').notNull(),
    /** ISO 4217. All prices are in it. */
    currency: text('currency').notNull(),
    createdAt: createdAt(),
    /** NULL = draft. */
    finalizedAt: time('finalized_at'),
    /** What is owed: the sum of the lines, each rounded to a cent. NULL = draft. */
    billedPusd: pusd('billed_pusd'),
    /** The sum of the lines before rounding. NULL = draft. */
    exactPusd: pusd('exact_pusd'),
    /** What the ledger had unbilled for the same usage. NULL = draft. */
    unbilledPusd: pusd('unbilled_pusd'),
    lineCount: integer('line_count'),
    requests: total('requests'),
    /** Of the requests, those charged nothing since no price was known. NULL = draft. */
    unpricedRequests: total('unpriced_requests'),
    /**
     * Requests of the month that a host closed at their last progress after a crash: billed for
     * what was delivered. NULL = draft.
     */
    recoveredRequests: total('recovered_requests'),
  },
  (table) => [
    // createInvoice: one invoice a month. findInvoice by period, listInvoices.
    unique('invoices_tenant_period').on(table.tenantId, table.periodStart),
    unique('invoices_tenant_number').on(table.tenantId, table.number),
    // What is billed and what the ledger moves are the same money, or nothing is finalized.
    check('invoices_lines_equal_ledger', sql`exact_pusd = unbilled_pusd`),
  ],
)

/** The last number given to an invoice of a tenant. Its row's lock orders finalizing. */
export const invoiceNumbers = pgTable('invoice_numbers', {
  tenantId: text('tenant_id')
    .primaryKey()
    .references(() => tenants.id),
  lastNumber: integer('last_number').notNull(),
})

export type InvoiceStatus = 'draft' | 'final'
export type Invoice = typeof invoices.$inferSelect
