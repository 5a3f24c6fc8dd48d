/**
 * The ledger's usage entries, summed per hour (schema/usage-rollups.ts), each exactly once however
 * many edges do it at the same moment: the watermark moves in the statement that adds the sums.
 */
import { type SQL, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { retryOnConflict } from './retry-on-conflict.ts'

export interface RollUp {
  /** Entries that were added to the roll-ups. */
  entries: number
  /** Charges that were taken back because two attempts had come at the same moment. */
  reversed: number
}

/**
 * Usage entries as the roll-ups count them: a charge as it is, a reversal below zero; cached tokens
 * no more than the prompt's, as they were charged, so that tokens × price is the amount of a sum
 * too. The event is looked up row by row (see queries/usage.ts).
 */
export const countedEntries = (condition: SQL) => sql`
  select entry.request_id, entry.attempt, entry.kind, entry.occurred_at,
    entry.tenant_id, date_trunc('hour', entry.occurred_at, 'UTC') as hour,
    case when event.model_id is null then event.model else split_part(event.model, '@', 1) end
      as model,
    event.model_id, event.adapter_version_id, event.key_id, event.base_model,
    entry.price_id, entry.price_basis,
    sign.of as requests, sign.of * event.prompt_tokens as prompt_tokens,
    sign.of * least(event.cached_prompt_tokens, event.prompt_tokens) as cached_prompt_tokens,
    sign.of * event.completion_tokens as completion_tokens,
    sign.of * event.gpu_us as gpu_us, sign.of * event.swap_us as swap_us,
    sign.of * entry.amount_pusd as amount_pusd
  from ledger_entries entry
  cross join lateral (
    select case entry.kind when 'usage' then 1::numeric else -1::numeric end as of) sign
  cross join lateral (select * from usage_events charged
    where charged.request_id = entry.request_id and charged.attempt = entry.attempt
    offset 0) event
  where entry.kind in ('usage', 'usage_reversal') and ${condition}`

/** What a roll-up's row is told apart by. */
export const ROLLUP_KEY =
  sql.raw(`tenant_id, hour, model, model_id, adapter_version_id, key_id, base_model,
  price_id, price_basis`)
/** What it sums. */
export const ROLLUP_COUNTERS = [
  'requests',
  'prompt_tokens',
  'cached_prompt_tokens',
  'completion_tokens',
  'gpu_us',
  'swap_us',
  'amount_pusd',
]
const counters = (toText: (name: string) => string) =>
  sql.raw(ROLLUP_COUNTERS.map(toText).join(', '))

/** The columns of a line of usage: what it is of, and its counters. */
export const LINE = sql`${ROLLUP_KEY}, ${counters((name) => name)}`

/** About how many entries one statement adds: a backlog goes in bites, none of which is long. */
const BITE = 20_000

/**
 * Adds all that came in since the last time. Takes part in no queue: when another edge is at it,
 * returns zeros at once. Entries of transactions that are still open wait for the next time.
 */
export async function rollUpUsage(db: Db): Promise<RollUp> {
  await db.execute(countOnAfterRestore)
  const sum: RollUp = { entries: 0, reversed: 0 }
  for (;;) {
    const { rows } = await retryOnConflict(() => db.execute<Bite>(rollUp))
    sum.entries += rows[0]?.entries ?? 0
    sum.reversed += rows[0]?.reversed ?? 0
    if (rows[0]?.has_more !== true) return sum
  }
}

type Bite = { entries: number; reversed: number; has_more: boolean | null }

/**
 * A restored dump is a database whose transactions count from the start again; the ledger's count
 * goes on from its highest entry. Elsewhere the next transaction is never below the watermark.
 */
const countOnAfterRestore = sql`
  update rollup_state set xid_offset = 1
    + greatest(watermark, (select coalesce(max(ingest_xid), 0) from ledger_entries))
    - pg_snapshot_xmax(pg_current_snapshot())::text::bigint
  where pg_snapshot_xmax(pg_current_snapshot())::text::bigint + xid_offset < watermark`

/**
 * `horizon` is the oldest transaction that was open when this statement began: whatever is below it
 * is committed and seen here; `high` is as much of that as makes a bite, at least one transaction.
 * `overtaken` are charges that ingest could not take back, since the other
 * attempt's batch was not committed yet; the later of the two is in `fresh` now, and both are seen.
 * Their reversals belong to this transaction, which is above the horizon: a later one counts them.
 */
const rollUp = sql`
  with state as (
    -- With nothing to add it takes no lock, and so writes nothing.
    select watermark, xid_offset from rollup_state
    where exists (select from ledger_entries where ingest_xid >= watermark)
    for update skip locked
  ), seen as (
    select watermark as low, greatest(watermark,
      pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_offset) as horizon
    from state
  ), span as (
    select low, horizon, least(horizon, (
      select greatest(ingest_xid, low + 1) from ledger_entries where ingest_xid >= low
      order by ingest_xid offset ${BITE} limit 1)) as high
    from seen
  ), fresh as materialized (
    ${countedEntries(sql`entry.ingest_xid >= (select low from span)
      and entry.ingest_xid < (select high from span)`)}
  ), overtaken as (
    select request_id, attempt from fresh lower where kind = 'usage' and exists (
      select from usage_events higher where higher.request_id = lower.request_id
        and higher.attempt > lower.attempt and higher.attempt > 1)
    union
    select event.request_id, event.attempt from fresh higher
    cross join lateral (select request_id, attempt from usage_events earlier
      where earlier.request_id = higher.request_id and earlier.attempt < higher.attempt
      offset 0) event
    where higher.attempt > 1 and higher.kind = 'usage'
  ), reversed as (
    insert into ledger_entries (id, kind, debit_account, credit_account, amount_pusd, tenant_id,
      request_id, attempt, price_id, price_basis, occurred_at)
    select overtaken.request_id || '/' || overtaken.attempt || '/usage_reversal' as id,
      'usage_reversal', charge.credit_account, charge.debit_account, charge.amount_pusd,
      charge.tenant_id, charge.request_id, charge.attempt, charge.price_id, charge.price_basis,
      charge.occurred_at
    from overtaken
    cross join lateral (select * from ledger_entries posted
      where posted.id = overtaken.request_id || '/' || overtaken.attempt || '/usage'
      offset 0) charge
    order by id
    on conflict (id) do nothing
    returning 1
  ), added as (
    insert into usage_rollups (${LINE})
    select ${ROLLUP_KEY}, ${counters((name) => `sum(${name})`)} from fresh
    group by ${ROLLUP_KEY} order by ${ROLLUP_KEY}
    on conflict on constraint usage_rollups_key do update set
      ${counters((name) => `${name} = usage_rollups.${name} + excluded.${name}`)}
  ), moved as (
    update rollup_state set watermark = span.high from span where span.high > span.low
  )
  select (select count(*) from fresh)::integer as entries,
    (select count(*) from reversed)::integer as reversed,
    (select high < horizon from span) as has_more`
