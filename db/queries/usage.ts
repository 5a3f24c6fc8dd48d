/**
 * Usage in, and what it costs. One statement stores a batch of events and charges each one that is
 * new: an event without its ledger entry, or charged twice, cannot exist.
 */
import { and, desc, eq, getTableColumns, gte, lt, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { ledgerEntries, type PriceBasis } from '../schema/ledger-entries.ts'
import { type UsageEventRow, usageEvents } from '../schema/usage-events.ts'
import type { UsageEvent } from '../usage-event.ts'

export type { UsageEvent }

export interface UsageReceipt {
  /** Events that were new, and are charged now. */
  inserted: number
  /** Events that were stored before, or came twice in the batch. */
  known: number
}

/**
 * Stores what is new of a batch. Never refuses an event for what it names: tenants, models and
 * prices that are gone or unknown do not matter. Throws only when the database does; then nothing
 * of the batch is stored.
 */
export async function recordUsageEvents(
  db: Db,
  events: readonly UsageEvent[],
): Promise<UsageReceipt> {
  // The first of equal ids counts, as it does between batches.
  const distinct = new Map<string, UsageEvent>()
  for (const event of events) {
    const requestId = toStorable(event.request_id)
    if (!distinct.has(requestId)) distinct.set(requestId, event)
  }
  const rows = [...distinct.values()].map((event) => ({ ...event, ledger_id: createId('led') }))
  const json = JSON.stringify(rows, (_key, value: unknown) =>
    typeof value === 'string' ? toStorable(value) : value,
  )
  const result = await db.execute<{ inserted: number }>(insertAndCharge(json))
  const inserted = result.rows[0]?.inserted ?? 0
  return { inserted, known: events.length - inserted }
}

/** PostgreSQL's text cannot hold U+0000 or half of a surrogate pair; one would block its batch. */
function toStorable(text: string): string {
  return text.toWellFormed().replaceAll('\u0000', '\ufffd')
}

/**
 * `incoming` is sorted, so that two batches with the same events wait for each other in one order
 * and cannot deadlock. The price is joined to what was really inserted. Money is numeric: exact.
 */
function insertAndCharge(json: string) {
  return sql`
    with incoming as (
      select * from jsonb_to_recordset(${json}::text::jsonb) as event(
        ledger_id text, request_id text, tenant_id text, key_id text, model text, model_id text,
        adapter_version_id text, adapter_digest text, base_model text, price_version_id text,
        host_id text, epoch bigint, prompt_tokens bigint, cached_prompt_tokens bigint,
        completion_tokens bigint, finish_reason text, gpu_us bigint, queue_us bigint,
        ttft_us bigint, swap_us bigint, adapter_source text, started_at timestamptz,
        ended_at timestamptz, source text)
    ), inserted as (
      insert into usage_events (request_id, tenant_id, key_id, model, model_id,
        adapter_version_id, adapter_digest, base_model, price_version_id, host_id, epoch,
        prompt_tokens, cached_prompt_tokens, completion_tokens, finish_reason, gpu_us, queue_us,
        ttft_us, swap_us, adapter_source, started_at, ended_at, source)
      select request_id, tenant_id, key_id, model, model_id,
        adapter_version_id, adapter_digest, base_model, price_version_id, host_id, epoch,
        prompt_tokens, cached_prompt_tokens, completion_tokens, finish_reason, gpu_us, queue_us,
        ttft_us, swap_us, adapter_source, started_at, ended_at, source
      from incoming order by request_id
      on conflict (request_id) do nothing
      returning *
    ), priced as (
      select inserted.*,
        least(cached_prompt_tokens, prompt_tokens)::numeric as cached,
        coalesce(named.id, newest.id) as applied_id,
        case when named.id is not null then 'named'
          when newest.id is not null then 'current' else 'unpriced' end as basis,
        coalesce(named.prompt_pusd, newest.prompt_pusd, 0)::numeric as per_prompt,
        coalesce(named.cached_prompt_pusd, newest.cached_prompt_pusd, 0)::numeric as per_cached,
        coalesce(named.completion_pusd, newest.completion_pusd, 0)::numeric as per_completion
      from inserted
      left join prices named
        on named.id = inserted.price_version_id and named.base_model = inserted.base_model
      left join lateral (
        select * from prices where prices.base_model = inserted.base_model
        order by version desc limit 1
      ) newest on true
    ), charged as (
      insert into ledger_entries
        (id, tenant_id, request_id, amount_pusd, price_id, price_basis, occurred_at)
      select incoming.ledger_id, priced.tenant_id, priced.request_id,
        (priced.prompt_tokens - cached) * per_prompt + cached * per_cached
          + priced.completion_tokens * per_completion,
        applied_id, basis, priced.ended_at
      from priced join incoming on incoming.request_id = priced.request_id
      returning 1
    )
    select count(*)::integer as inserted from charged`
}

/** Sums of one model's requests in a period. */
export interface ModelUsage {
  /** Without a version: all versions of a model are one line. */
  model: string
  requests: number
  promptTokens: number
  cachedPromptTokens: number
  completionTokens: number
  gpuUs: number
  costPusd: bigint
}

export interface UsagePeriod {
  readonly tenantId: string
  /** Inclusive. An event belongs where its request ended, by its host's clock. */
  readonly start: Date
  /** Exclusive. */
  readonly end: Date
  /** Absent = all. */
  readonly model?: string | undefined
}

/**
 * An adapter's model is named `<model>` or `<model>@<version>`; a base model's name stays whole.
 */
const modelName = sql<string>`case when ${usageEvents.modelId} is null then ${usageEvents.model}
  else split_part(${usageEvents.model}, '@', 1) end`

/** By model name. */
export async function usageByModel(db: Db, period: UsagePeriod): Promise<ModelUsage[]> {
  const total = (column: Parameters<typeof gte>[0]) =>
    sql`coalesce(sum(${column}), 0)::text`.mapWith(toSafeNumber)
  return db
    .select({
      model: modelName.as('model_name'),
      requests: sql`count(*)::text`.mapWith(toSafeNumber),
      promptTokens: total(usageEvents.promptTokens),
      cachedPromptTokens: total(usageEvents.cachedPromptTokens),
      completionTokens: total(usageEvents.completionTokens),
      gpuUs: total(usageEvents.gpuUs),
      costPusd: totalCost,
    })
    .from(usageEvents)
    .innerJoin(ledgerEntries, eq(ledgerEntries.requestId, usageEvents.requestId))
    .where(
      and(
        eq(usageEvents.tenantId, period.tenantId),
        gte(usageEvents.endedAt, period.start),
        lt(usageEvents.endedAt, period.end),
        period.model === undefined ? undefined : sql`${modelName} = ${period.model}`,
      ),
    )
    .groupBy(sql`model_name`)
    .orderBy(sql`model_name`)
}

export type ChargedUsageEvent = UsageEventRow & { costPusd: bigint; priceBasis: PriceBasis }

export interface UsagePage {
  readonly tenantId: string
  readonly limit: number
  /** `requestId` of the last row of the page before; absent = from the newest. */
  readonly after?: string | null | undefined
}

/** Newest first. Empty when `after` names no event of this tenant. */
export async function listUsageEvents(db: Db, page: UsagePage): Promise<ChargedUsageEvent[]> {
  const isTenants = eq(usageEvents.tenantId, page.tenantId)
  const position = sql`(${usageEvents.endedAt}, ${usageEvents.requestId})`
  const isAfter = page.after
    ? sql`${position} < (select last.ended_at, last.request_id from usage_events last
        where last.request_id = ${page.after} and last.tenant_id = ${page.tenantId})`
    : undefined
  return db
    .select({
      ...getTableColumns(usageEvents),
      costPusd: ledgerEntries.amountPusd,
      priceBasis: ledgerEntries.priceBasis,
    })
    .from(usageEvents)
    .innerJoin(ledgerEntries, eq(ledgerEntries.requestId, usageEvents.requestId))
    .where(and(isTenants, isAfter))
    .orderBy(desc(usageEvents.endedAt), desc(usageEvents.requestId))
    .limit(page.limit)
}

/** All that a tenant was ever charged. */
export async function ledgerTotals(
  db: Db,
  filter: { tenantId: string },
): Promise<{ entries: number; amountPusd: bigint }> {
  const [row] = await db
    .select({ entries: sql`count(*)::text`.mapWith(toSafeNumber), amountPusd: totalCost })
    .from(ledgerEntries)
    .where(eq(ledgerEntries.tenantId, filter.tenantId))
  return row ?? { entries: 0, amountPusd: 0n }
}

const totalCost = sql`coalesce(sum(${ledgerEntries.amountPusd}), 0)::text`.mapWith((text: string) =>
  BigInt(text),
)

/** A sum that a number cannot hold exactly is refused, not rounded. */
function toSafeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError('a sum of usage exceeds 2^53')
  return value
}
