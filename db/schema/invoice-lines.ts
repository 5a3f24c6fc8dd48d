/**
 * Lines of final invoices, append-only; written by finalizeInvoice alone. A line is one kind of
 * token of one model at one price, used in one month.
 */
import { boolean, integer, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { pusd, pusdPerToken, time, total } from './columns.ts'
import { invoices } from './invoices.ts'

export const invoiceLines = pgTable(
  'invoice_lines',
  {
    invoiceId: text('invoice_id')
      .notNull()
      .references(() => invoices.id),
    /** 1, 2, 3 … per invoice. */
    line: integer('line').notNull(),
    /** The invoice's tenant, again: every read can filter by it without a join. */
    tenantId: text('tenant_id').notNull(),
    /** The month of the usage; before the invoice's own = came late, or is a correction. */
    usageStart: time('usage_start').notNull(),
    /** That month has a final invoice already, which this line corrects. */
    isCorrection: boolean('is_correction').notNull(),
    /** Name without a version. */
    model: text('model').notNull(),
    /** NULL = the base model alone. */
    modelId: text('model_id'),
    baseModel: text('base_model').notNull(),
    /** NULL = unpriced: nobody knew the base model when it was used. */
    priceId: text('price_id'),
    kind: text('kind').$type<TokenKind>().notNull(),
    /** Tokens; below 0 where a correction takes back. */
    quantity: total('quantity').notNull(),
    /** Pico-USD per token; 0 when unpriced. */
    unitPricePusd: pusdPerToken('unit_price_pusd').notNull(),
    /** Quantity × unit price, exact. */
    exactPusd: pusd('exact_pusd').notNull(),
    /** The exact amount, rounded once to a whole cent, half away from zero. */
    billedPusd: pusd('billed_pusd').notNull(),
  },
  (table) => [primaryKey({ columns: [table.invoiceId, table.line] })],
)

/** `prompt` = computed; `cached_prompt` = found in the prefix cache; the two never overlap. */
export type TokenKind = 'prompt' | 'cached_prompt' | 'completion'
export type InvoiceLine = typeof invoiceLines.$inferSelect
