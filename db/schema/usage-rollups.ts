/**
 * Usage summed per hour and whatever a bill or a report distinguishes: what the ledger's usage
 * entries add up to, reversals taken off. Written by rollUpUsage alone, but for the `invoiced_…`
 * columns, which say how much of the sum beside them stands on final invoices.
 */
import { sql } from 'drizzle-orm'
import { integer, pgTable, text, unique } from 'drizzle-orm/pg-core'
import { count, pusd, time, total } from './columns.ts'
import type { PriceBasis } from './ledger-entries.ts'

export const usageRollups = pgTable(
  'usage_rollups',
  {
    tenantId: text('tenant_id').notNull(),
    /** Start of the hour of the billing time, UTC. */
    hour: time('hour').notNull(),
    /** Name without a version: all versions of a model, one name. */
    model: text('model').notNull(),
    /** NULL = the base model alone. */
    modelId: text('model_id'),
    /** NULL = the base model alone. */
    adapterVersionId: text('adapter_version_id'),
    /** NULL = no API key of the tenant was used. */
    keyId: text('key_id'),
    baseModel: text('base_model').notNull(),
    /** NULL = unpriced. */
    priceId: text('price_id'),
    priceBasis: text('price_basis').$type<PriceBasis>().notNull(),
    requests: total('requests').notNull(),
    promptTokens: total('prompt_tokens').notNull(),
    cachedPromptTokens: total('cached_prompt_tokens').notNull(),
    completionTokens: total('completion_tokens').notNull(),
    gpuUs: total('gpu_us').notNull(),
    swapUs: total('swap_us').notNull(),
    amountPusd: pusd('amount_pusd').notNull(),
    invoicedRequests: total('invoiced_requests').notNull().default(sql`0`),
    invoicedPromptTokens: total('invoiced_prompt_tokens').notNull().default(sql`0`),
    invoicedCachedPromptTokens: total('invoiced_cached_prompt_tokens').notNull().default(sql`0`),
    invoicedCompletionTokens: total('invoiced_completion_tokens').notNull().default(sql`0`),
    invoicedGpuUs: total('invoiced_gpu_us').notNull().default(sql`0`),
    invoicedSwapUs: total('invoiced_swap_us').notNull().default(sql`0`),
    invoicedAmountPusd: pusd('invoiced_amount_pusd').notNull().default(sql`0`),
  },
  (table) => [
    // Conflict target of rollUpUsage; a tenant's period for usageTotals and invoices.
    unique('usage_rollups_key')
      .on(
        table.tenantId,
        table.hour,
        table.model,
        table.modelId,
        table.adapterVersionId,
        table.keyId,
        table.baseModel,
        table.priceId,
        table.priceBasis,
      )
      .nullsNotDistinct(),
  ],
)

/** The one row that says how far the roll-up came; its lock is the roll-up's turn. */
export const rollupState = pgTable('rollup_state', {
  /** Always 1. */
  id: integer('id').primaryKey(),
  /** Entries with an `ingest_xid` below it are in the roll-ups, all others are not. */
  watermark: count('watermark').notNull(),
  /**
   * Added to PostgreSQL's transaction number to make an `ingest_xid`: a database that was restored
   * from a dump counts transactions from the start again, the ledger must not.
   */
  xidOffset: count('xid_offset').notNull(),
})

export type UsageRollup = typeof usageRollups.$inferSelect
