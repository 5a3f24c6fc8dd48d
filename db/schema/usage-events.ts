/**
 * One immutable row per request: the fact that is billed. Insert-only. No foreign key and no check:
 * an event may arrive after its tenant's model is gone, and must be stored all the same. Who
 * inserts is queries/usage.ts, which writes the ledger entry in the same statement.
 */
import { index, pgTable, text } from 'drizzle-orm/pg-core'
import { count, time } from './columns.ts'

export const usageEvents = pgTable(
  'usage_events',
  {
    /** Unique for ever: a second copy of the event, from whomever, changes nothing. */
    requestId: text('request_id').primaryKey(),
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
    baseModel: text('base_model').notNull(),
    /**
     * The price promised on admission; NULL = none was. The ledger entry says which one applied.
     */
    priceVersionId: text('price_version_id'),
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
    /** Host's clock; decides which period the request is billed in. */
    endedAt: time('ended_at').notNull(),
    source: text('source').$type<UsageSource>().notNull(),
    /** Database's clock. */
    receivedAt: time('received_at').notNull().defaultNow(),
  },
  (table) => [
    // usageByModel: a tenant's period. listUsageEvents: newest first, paged by (ended_at, id).
    index('usage_events_tenant_ended').on(table.tenantId, table.endedAt, table.requestId),
  ],
)

export type FinishReason = 'stop' | 'length' | 'abort' | 'error'
export type AdapterSource = 'none' | 'slot' | 'ram' | 'disk' | 'store'
/** `engine` = settled by the host; `recovered` = closed at its last progress after a crash. */
export type UsageSource = 'engine' | 'recovered'
export type UsageEventRow = typeof usageEvents.$inferSelect
