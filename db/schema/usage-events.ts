/**
 * One immutable row per attempt at a request: the fact that is billed. Insert-only, and partitioned
 * by the month that the request's id was made in. No foreign key and no check: an event may arrive
 * after its tenant's model is gone, and must be stored all the same. Who inserts is
 * queries/usage.ts, which writes the ledger entry in the same statement.
 */
import { sql } from 'drizzle-orm'
import { index, pgTable, primaryKey, smallint, text } from 'drizzle-orm/pg-core'
import { bytewiseText, count, time } from './columns.ts'

export const usageEvents = pgTable(
  'usage_events',
  {
    requestId: bytewiseText('request_id').notNull(),
    /** 1, 2, 3 …: of a request's attempts the highest alone stays charged. */
    attempt: smallint('attempt').notNull(),
    tenantId: text('tenant_id').notNull(),
    /** NULL = no API key of the tenant was used (the operator's). */
    keyId: text('key_id'),
    /** Name as the request gave it, `<model>` or `<model>@<version>`. */
    model: text('model').notNull(),
    /** NULL = the base model alone. */
    modelId: text('model_id'),
    /** NULL = the base model alone. */
    adapterVersionId: text('adapter_version_id'),
    /** NULL = the base model alone. */
    adapterDigest: text('adapter_digest'),
    /** Size of the adapter's pack; 0 = the base model alone, or not reported. */
    adapterBytes: count('adapter_bytes').notNull(),
    baseModel: text('base_model').notNull(),
    /**
     * The price promised on admission; NULL = none was. The ledger entry says which one applied.
     */
    priceVersionId: text('price_version_id'),
    /** Spend leases that the request was admitted under; the charge is posted against them. */
    leaseIds: text('lease_ids').array().notNull(),
    hostId: text('host_id').notNull(),
    epoch: count('epoch').notNull(),
    promptTokens: count('prompt_tokens').notNull(),
    /** A subset of the prompt's tokens. */
    cachedPromptTokens: count('cached_prompt_tokens').notNull(),
    completionTokens: count('completion_tokens').notNull(),
    finishReason: text('finish_reason').$type<FinishReason>().notNull(),
    gpuUs: count('gpu_us').notNull(),
    queueUs: count('queue_us').notNull(),
    /** NULL = no token was made. */
    ttftUs: count('ttft_us'),
    swapUs: count('swap_us').notNull(),
    adapterSource: text('adapter_source').$type<AdapterSource>().notNull(),
    /** Host's clock. */
    startedAt: time('started_at').notNull(),
    /** Host's clock. */
    endedAt: time('ended_at').notNull(),
    /**
     * Billing time: when the request's id was made, else `ended_at` where an id carries no time.
     * Decides which period the request is billed in, so that a host's clock never does.
     */
    occurredAt: time('occurred_at').notNull(),
    source: text('source').$type<UsageSource>().notNull(),
    /** Database's clock. */
    receivedAt: time('received_at').notNull().defaultNow(),
  },
  (table) => [
    // Unique for ever: a second copy of the event, from whomever, changes nothing.
    primaryKey({ columns: [table.requestId, table.attempt] }),
    // listUsageEvents: newest first, paged by (occurred_at, request_id, attempt). usageTotals: the
    // hours that a period cuts.
    index('usage_events_tenant_occurred').on(
      table.tenantId,
      table.occurredAt,
      table.requestId,
      table.attempt,
    ),
    // Who supersedes whom: few requests have a second attempt, so asking costs next to nothing.
    index('usage_events_later_attempts').on(table.requestId, table.attempt).where(sql`attempt > 1`),
    // Invoices: how many requests of a month ended in a crash. They are few.
    index('usage_events_recovered')
      .on(table.tenantId, table.occurredAt)
      .where(sql`source = 'recovered'`),
  ],
)

export type FinishReason = 'stop' | 'length' | 'abort' | 'error'
export type AdapterSource = 'none' | 'slot' | 'ram' | 'disk' | 'store'
/**
 * `engine` = settled by the host; `recovered` = closed at its last progress after a crash; `edge` =
 * void: all counts are zero, since no attempt reached the client.
 */
export type UsageSource = 'engine' | 'recovered' | 'edge'
export type UsageEventRow = typeof usageEvents.$inferSelect
