/**
 * Usage in: one statement stores a batch of events, charges each one that is new, takes the charge
 * of a superseded attempt back, and posts both to the spend leases that the events name. An event
 * without its ledger entry, or charged twice, cannot exist.
 */
import { and, desc, eq, getTableColumns, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { idTimeMs } from '../ids.ts'
import { type LedgerEntryKind, ledgerEntries, type PriceBasis } from '../schema/ledger-entries.ts'
import { type UsageEventRow, usageEvents } from '../schema/usage-events.ts'
import type { UsageEvent } from '../usage-event.ts'
import { retryOnConflict } from './retry-on-conflict.ts'

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
  // The first of equal events counts, as it does between batches.
  const distinct = new Map<string, UsageEvent & { occurred_at: string }>()
  for (const event of events) {
    const request_id = toStorable(event.request_id)
    const key = `${request_id}/${event.attempt}`
    if (!distinct.has(key)) distinct.set(key, { ...event, occurred_at: billingTime(event) })
  }
  const json = JSON.stringify([...distinct.values()], (_key, value: unknown) =>
    typeof value === 'string' ? toStorable(value) : value,
  )
  const result = await retryOnConflict(() =>
    db.execute<{ inserted: number }>(insertAndCharge(json)),
  )
  const inserted = result.rows[0]?.inserted ?? 0
  return { inserted, known: events.length - inserted }
}

/** The edge's time, which the request's id carries; the host's where an id has none. */
function billingTime(event: UsageEvent): string {
  const madeMs = idTimeMs(event.request_id)
  return madeMs === null ? event.ended_at : new Date(madeMs).toISOString()
}

/** PostgreSQL's text cannot hold U+0000 or half of a surrogate pair; one would block its batch. */
function toStorable(text: string): string {
  return text.toWellFormed().replaceAll('\u0000', '\ufffd')
}

/** What an event brings; the rest of its row is the database's. */
const EVENT_COLUMNS = sql.raw(`request_id, attempt, tenant_id, key_id, model, model_id,
  adapter_version_id, adapter_digest, adapter_bytes, base_model, price_version_id, lease_ids,
  host_id, epoch, prompt_tokens, cached_prompt_tokens, completion_tokens, finish_reason, gpu_us,
  queue_us, ttft_us, swap_us, adapter_source, started_at, ended_at, occurred_at, source`)

/**
 * Batches that hold the same events wait for each other in one order and cannot deadlock: all
 * events sorted first, then all entries sorted (the sort reads the last event before the first
 * entry is written). The price is joined to what was really inserted. Money is numeric: exact.
 *
 * A lower attempt's charge goes back when the higher one is in this batch or committed before it.
 * Two batches at the same moment do not see each other: rollUpUsage finds what both left.
 *
 * `offset 0` keeps a join row by row through the index of a month: the planner cannot foresee that
 * an id has but one month to lie in, and would rather read all of them whole.
 */
function insertAndCharge(json: string) {
  return sql`
    with incoming as (
      select * from jsonb_to_recordset(${json}::text::jsonb) as event(
        request_id text, attempt smallint, tenant_id text, key_id text, model text, model_id text,
        adapter_version_id text, adapter_digest text, adapter_bytes bigint, base_model text,
        price_version_id text, lease_ids text[], host_id text, epoch bigint, prompt_tokens bigint,
        cached_prompt_tokens bigint, completion_tokens bigint, finish_reason text, gpu_us bigint,
        queue_us bigint, ttft_us bigint, swap_us bigint, adapter_source text,
        started_at timestamptz, ended_at timestamptz, occurred_at timestamptz, source text)
    ), clock as materialized (
      select ledger_xid() as xid
    ), inserted as (
      insert into usage_events (${EVENT_COLUMNS})
      select ${EVENT_COLUMNS} from incoming order by request_id collate "C", attempt
      on conflict (request_id, attempt) do nothing
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
    ), charges as (
      select request_id, attempt, 'unbilled/' || tenant_id as tenant_account,
        'revenue/' || base_model as revenue_account,
        (prompt_tokens - cached) * per_prompt + cached * per_cached
          + completion_tokens * per_completion as amount_pusd,
        tenant_id, applied_id as price_id, basis as price_basis, occurred_at, lease_ids,
        max(attempt) over (partition by request_id) as highest
      from priced
    ), superseded as (
      select * from charges lower where attempt < highest or exists (
        select from usage_events higher
        where higher.request_id = lower.request_id and higher.attempt > lower.attempt
          and higher.attempt > 1)
      union all
      select event.request_id, event.attempt, lower.debit_account, lower.credit_account,
        lower.amount_pusd, lower.tenant_id, lower.price_id, lower.price_basis, lower.occurred_at,
        event.lease_ids, null
      from (select request_id, max(attempt) as attempt from inserted where attempt > 1
        group by request_id) higher
      cross join lateral (select * from usage_events earlier
        where earlier.request_id = higher.request_id and earlier.attempt < higher.attempt
        offset 0) event
      cross join lateral (select * from ledger_entries charge
        where charge.id = event.request_id || '/' || event.attempt || '/usage' offset 0) lower
    ), transfers as (
      select *, 'usage' as kind, tenant_account as debit, revenue_account as credit from charges
      union all
      select *, 'usage_reversal', revenue_account, tenant_account from superseded
    ), posted as (
      insert into ledger_entries (id, kind, debit_account, credit_account, amount_pusd, tenant_id,
        request_id, attempt, price_id, price_basis, occurred_at, ingest_xid)
      select request_id || '/' || attempt || '/' || kind as id, kind, debit, credit, amount_pusd,
        tenant_id, request_id, attempt, price_id, price_basis, occurred_at, clock.xid
      from transfers cross join clock
      order by id
      on conflict (id) do nothing
      returning request_id, attempt, kind
    ), charged as (
      -- What this statement moved; reversals are below zero.
      -- A new event's charge is always new, a reversal may have been posted before.
      select lease_ids, amount_pusd as pusd, 1 as events from charges
      union all
      select lease_ids, -amount_pusd, 0 from superseded
      join (select * from posted where kind = 'usage_reversal') reversal
        using (request_id, attempt)
    ), lease_charges as (
      select lease_id, sum(pusd) as pusd from charged cross join unnest(lease_ids) as lease_id
      group by lease_id
    ), charged_leases as (
      -- In the order in which take_portions() locks them too.
      select id, lease_charges.pusd from spend_leases join lease_charges on id = lease_id
      order by scope_id, id for update of spend_leases
    ), posted_leases as (
      update spend_leases set posted_pusd = posted_pusd + charged_leases.pusd
      from charged_leases where spend_leases.id = charged_leases.id
    )
    select coalesce(sum(events), 0)::integer as inserted from charged`
}

export type ChargedUsageEvent = UsageEventRow & {
  /** What is charged for it; 0 once a later attempt of its request is. */
  costPusd: bigint
  priceBasis: PriceBasis
  isSuperseded: boolean
}

/** Where a page ended. */
export type UsagePosition = Pick<UsageEventRow, 'requestId' | 'attempt'>

export interface UsagePage {
  readonly tenantId: string
  readonly limit: number
  /** The last row of the page before; absent = from the newest. */
  readonly after?: UsagePosition | null | undefined
  /** These alone; absent = all. */
  readonly only?: readonly UsagePosition[] | undefined
}

/** Newest first. Empty when `after` names no event of this tenant. */
export async function listUsageEvents(db: Db, page: UsagePage): Promise<ChargedUsageEvent[]> {
  const { requestId, attempt } = usageEvents
  const position = sql`(${usageEvents.occurredAt}, ${requestId}, ${attempt})`
  const isAfter = page.after
    ? sql`${position} < (select last.occurred_at, last.request_id, last.attempt
        from usage_events last where last.request_id = ${page.after.requestId}
        and last.attempt = ${page.after.attempt} and last.tenant_id = ${page.tenantId})`
    : undefined
  const pairs = JSON.stringify(page.only?.map((one) => [one.requestId, one.attempt]))
  const isWanted = page.only
    ? sql`(${requestId}, ${attempt}) in (select item ->> 0, (item ->> 1)::integer
        from jsonb_array_elements(${pairs}::text::jsonb) item)`
    : undefined
  // Limited to one, so that it is looked up row by row, as above.
  const entryOf = (kind: LedgerEntryKind) =>
    db
      .select({
        id: ledgerEntries.id,
        amountPusd: ledgerEntries.amountPusd,
        priceBasis: ledgerEntries.priceBasis,
      })
      .from(ledgerEntries)
      .where(eq(ledgerEntries.id, sql`${requestId} || '/' || ${attempt} || ${`/${kind}`}::text`))
      .limit(1)
      .as(kind)
  const [charge, reversal] = [entryOf('usage'), entryOf('usage_reversal')]
  return db
    .select({
      ...getTableColumns(usageEvents),
      costPusd: sql`case when ${reversal.id} is null then ${charge.amountPusd} else 0 end`.mapWith(
        ledgerEntries.amountPusd,
      ),
      priceBasis: sql<PriceBasis>`${charge.priceBasis}`,
      isSuperseded: sql<boolean>`${reversal.id} is not null`,
    })
    .from(usageEvents)
    .innerJoinLateral(charge, sql`true`)
    .leftJoinLateral(reversal, sql`true`)
    .where(and(eq(usageEvents.tenantId, page.tenantId), isAfter, isWanted))
    .orderBy(desc(usageEvents.occurredAt), desc(requestId), desc(attempt))
    .limit(page.limit)
}
