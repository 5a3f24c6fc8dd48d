/**
 * What each model took of the pool, and when it was asked: the facts from which `nozzle savings`
 * reckons what the pool spared. Every attempt counts here, charged or not: each took its time.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'

export interface UsePeriod {
  /** Inclusive; by billing time. */
  readonly start: Date
  /** Exclusive. */
  readonly end: Date
}

export interface ModelUse {
  /** The model's id, or `base/<base model>`: what the next page begins after. */
  key: string
  /** NULL = of no tenant alone: a base model, or of a tenant that is unknown. */
  tenant: string | null
  model: string
  baseModel: string
  requests: number
  gpuUs: number
  swapUs: number
  /** Packs of all its versions; 0 = a base model. */
  storedBytes: number
  /** When it was there to be used, within the period. */
  existsFrom: Date
  existsTo: Date
  /** When it was deployed, or else first used in the period; may be before it. */
  firstAt: Date
}

/** A base model is one model, whoever uses it. */
const KEY = sql.raw(`coalesce(event.model_id, 'base/' || event.base_model)`)

const during = ({ start, end }: UsePeriod) =>
  sql`event.occurred_at >= ${start.toISOString()}::timestamptz
    and event.occurred_at < ${end.toISOString()}::timestamptz`

/** Models that were used or merely deployed in the period, by key. */
export async function listModelUse(
  db: Db,
  page: UsePeriod & { readonly after: string | null; readonly limit: number },
): Promise<ModelUse[]> {
  const start = sql`${page.start.toISOString()}::timestamptz`
  const end = sql`${page.end.toISOString()}::timestamptz`
  const { rows } = await db.execute<UseRow>(sql`
    with used as (
      select ${KEY} as key,
        min(event.tenant_id) filter (where event.model_id is not null) as tenant_id,
        min(case when event.model_id is null then event.model
          else split_part(event.model, '@', 1) end) as model,
        min(event.base_model) as base_model, max(event.adapter_bytes) as adapter_bytes,
        count(distinct event.request_id) as requests, sum(event.gpu_us) as gpu_us,
        sum(event.swap_us) as swap_us, min(event.occurred_at) as first_at,
        max(event.occurred_at) as last_at
      from usage_events event where ${during(page)} group by 1
    ), deployed as (
      select models.id as key, models.tenant_id, models.name as model, models.created_at,
        models.removed_at, min(version.base_model) as base_model,
        sum(version.pack_bytes) as stored_bytes
      from models join adapter_versions version
        on version.model_id = models.id and version.created_at < ${end}
      where models.created_at < ${end}
        and (models.removed_at is null or models.removed_at > ${start})
      group by models.id
    )
    select key, tenants.name as tenant, coalesce(deployed.model, used.model) as model,
      coalesce(deployed.base_model, used.base_model) as "baseModel",
      coalesce(requests, 0)::text as requests, coalesce(gpu_us, 0)::text as "gpuUs",
      coalesce(swap_us, 0)::text as "swapUs",
      coalesce(stored_bytes, adapter_bytes, 0)::text as "storedBytes",
      extract(epoch from greatest(${start},
        case when deployed.created_at is not null then least(deployed.created_at, first_at) end
      ))::text as "existsFrom",
      extract(epoch from least(deployed.created_at, first_at))::text as "firstAt",
      extract(epoch from least(${end}, case when removed_at is null then ${end}
        else greatest(removed_at, last_at) end))::text as "existsTo"
    from used full join deployed using (key)
    left join tenants on tenants.id = coalesce(deployed.tenant_id, used.tenant_id)
    where key > ${page.after ?? ''} order by key limit ${page.limit}`)
  return rows.map((row) => ({
    ...row,
    requests: toSafeNumber(row.requests),
    gpuUs: toSafeNumber(row.gpuUs),
    swapUs: toSafeNumber(row.swapUs),
    storedBytes: toSafeNumber(row.storedBytes),
    existsFrom: new Date(Number(row.existsFrom) * 1000),
    existsTo: new Date(Number(row.existsTo) * 1000),
    firstAt: new Date(Number(row.firstAt) * 1000),
  }))
}

/** A request, or several that follow each other closely. */
export interface UseRun {
  readonly startMs: number
  readonly endMs: number
  readonly requests: number
}

/**
 * When models were asked, in order, for a replay of machines that start in `coldStartMs` and stay
 * `keepWarmMs`: every request that such a machine may keep waiting alone, those behind it that find
 * it warm together. A request lasts as long as it did here, without its time in the queue.
 */
export async function listUseRuns(
  db: Db,
  wish: UsePeriod & {
    readonly keys: readonly string[]
    readonly coldStartMs: number
    readonly keepWarmMs: number
  },
): Promise<Map<string, UseRun[]>> {
  const runs = new Map<string, UseRun[]>(wish.keys.map((key) => [key, []]))
  if (wish.keys.length === 0) return runs
  const { rows } = await db.execute<{ key: string; start: string; end: string; count: number }>(sql`
    with answered as (
      select distinct on (event.request_id) ${KEY} as key, event.request_id,
        floor(extract(epoch from event.occurred_at) * 1000)::bigint as start_ms,
        greatest(0, round(extract(epoch from event.ended_at - event.started_at) * 1000
          - event.queue_us / 1000.0))::bigint as lasts_ms
      from usage_events event where ${during(wish)} and ${KEY} in ${[...wish.keys]}
      order by event.request_id, event.attempt desc
    ), chained as (
      select *, max(start_ms + lasts_ms) over (partition by key order by start_ms, request_id
        rows between unbounded preceding and 1 preceding) as busy_until_ms
      from answered
    ), numbered as (
      select *, count(*) filter (
          where busy_until_ms is null or start_ms > busy_until_ms + ${wish.keepWarmMs}::bigint
        ) over (partition by key order by start_ms, request_id) as run
      from chained
    ), placed as (
      select *, start_ms < min(start_ms) over (partition by key, run)
        + ${wish.coldStartMs}::bigint as may_wait
      from numbered
    )
    select key, min(start_ms)::text as start, max(start_ms + lasts_ms)::text as end,
      count(*)::integer as count
    from placed group by key, run, case when may_wait then request_id end
    order by key, min(start_ms), max(start_ms + lasts_ms)`)
  for (const { key, start, end, count } of rows) {
    runs.get(key)?.push({ startMs: Number(start), endMs: Number(end), requests: count })
  }
  return runs
}

/** Hosts that answered in the period. */
export async function countHostsSeen(db: Db, period: UsePeriod): Promise<number> {
  const { rows } = await db.execute<{ hosts: number }>(sql`
    select count(distinct event.host_id)::integer as hosts from usage_events event
    where ${during(period)} and event.source <> 'edge'`)
  return rows[0]?.hosts ?? 0
}

type UseRow = Record<
  'key' | 'model' | 'baseModel' | 'requests' | 'gpuUs' | 'swapUs' | 'storedBytes',
  string
> & { tenant: string | null; existsFrom: string; existsTo: string; firstAt: string }

function toSafeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError('a sum of use exceeds 2^53')
  return value
}
