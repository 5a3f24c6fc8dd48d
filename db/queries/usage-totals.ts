/**
 * Sums of usage and of what it costs, exact at any moment: the roll-ups, and the entries that they
 * do not hold yet, in one snapshot of the database.
 */
import { type SQL, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { countedEntries, LINE } from './usage-rollups.ts'

/** What sums can be told apart by; the name is that of the total's field. */
export type UsageGroup = keyof typeof GROUPS

const GROUPS = {
  tenantId: sql`tenant_id`,
  /** Without a version: all versions of a model are one. */
  model: sql`model`,
  modelId: sql`model_id`,
  adapterVersionId: sql`adapter_version_id`,
  keyId: sql`key_id`,
  baseModel: sql`base_model`,
  priceId: sql`price_id`,
  priceBasis: sql`price_basis`,
  hour: sql`extract(epoch from hour)::bigint::text`,
  day: sql`extract(epoch from date_trunc('day', hour, 'UTC'))::bigint::text`,
}

export interface UsageScope {
  /** null = all tenants; for the operator alone. */
  readonly tenantId: string | null
  /** Inclusive; by billing time, to the millisecond. */
  readonly start: Date
  /** Exclusive. */
  readonly end: Date
}

export interface UsageQuery extends UsageScope {
  /** Absent = one sum of all. */
  readonly groupBy?: readonly UsageGroup[]
  /** Absent = all; several of one kind: any of them. */
  readonly filters?: Readonly<Partial<Record<UsageFilter, readonly string[]>>>
}

export type UsageFilter = Exclude<UsageGroup, 'hour' | 'day'>

export interface UsageSums {
  requests: number
  promptTokens: number
  cachedPromptTokens: number
  completionTokens: number
  gpuUs: number
  swapUs: number
  costPusd: bigint
}

/** A field that was not grouped by is null. */
export interface UsageTotal extends UsageSums, Record<UsageFilter, string | null> {
  /** Start of it, UTC. */
  hour: Date | null
  day: Date | null
}

/**
 * In the order of the fields grouped by; superseded attempts count nothing. Without a group one
 * row, of zeros when there was no usage. Throws RangeError for a sum that a number cannot hold.
 */
export async function usageTotals(db: Db, query: UsageQuery): Promise<UsageTotal[]> {
  const { groupBy = [], filters = {} } = query
  const field = (group: UsageGroup) => (groupBy.includes(group) ? GROUPS[group] : sql`null`)
  const fields = Object.keys(GROUPS).filter(isGroup)
  const keys = sql.join(
    fields.map((group) => sql`${field(group)} as ${sql.identifier(group)}`),
    sql`, `,
  )
  const conditions = fields.flatMap((group) => {
    const wanted = group === 'hour' || group === 'day' ? undefined : filters[group]
    if (wanted === undefined) return []
    return wanted.length === 0 ? [sql`false`] : [sql`${GROUPS[group]} in ${[...wanted]}`]
  })
  const order =
    groupBy.length === 0
      ? sql`()`
      : sql.join(
          groupBy.map((g) => GROUPS[g]),
          sql`, `,
        )
  const total = (column: string) =>
    sql`coalesce(sum(${sql.identifier(column)}), 0)::text as ${sql.identifier(column)}`
  const { rows } = await db.execute<TotalRow>(sql`
    select ${keys}, ${total('requests')}, ${total('prompt_tokens')},
      ${total('cached_prompt_tokens')}, ${total('completion_tokens')}, ${total('gpu_us')},
      ${total('swap_us')}, ${total('amount_pusd')}
    from (${usageLines(query)}) as line
    where ${conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `)}
    group by ${order} ${groupBy.length === 0 ? sql`` : sql`order by ${order}`}`)
  return rows.map(toTotal)
}

/**
 * Usage of a scope as lines with the columns of `usage_rollups`, for a statement that sums them
 * itself: the whole hours from the roll-ups and from what they do not hold yet; the hours that the
 * period cuts from the entries.
 */
export function usageLines({ tenantId, start, end }: UsageScope): SQL {
  const from = new Date(Math.ceil(start.getTime() / HOUR_MS) * HOUR_MS)
  const to = new Date(Math.floor(end.getTime() / HOUR_MS) * HOUR_MS)
  const isTenants = (column: SQL) => (tenantId === null ? sql`true` : sql`${column} = ${tenantId}`)
  const during = (since: Date, until: Date) =>
    sql`entry.occurred_at >= ${since.toISOString()}::timestamptz
      and entry.occurred_at < ${until.toISOString()}::timestamptz`
  const entries = (condition: SQL) => sql`
    select ${LINE} from (${countedEntries(sql`${isTenants(sql`entry.tenant_id`)} and ${condition}`)}) as counted`
  // No whole hour in it.
  if (from >= to) return entries(during(start, end))
  return sql`
    select ${LINE} from usage_rollups
    where ${isTenants(sql`tenant_id`)} and hour >= ${from.toISOString()}::timestamptz
      and hour < ${to.toISOString()}::timestamptz
    union all
    ${entries(sql`entry.ingest_xid >= (select watermark from rollup_state)
      and ${during(from, to)}`)}
    ${start < from ? sql`union all ${entries(during(start, from))}` : sql``}
    ${to < end ? sql`union all ${entries(during(to, end))}` : sql``}`
}

const HOUR_MS = 3_600_000

/** Sums of one model's requests in a period. */
export interface ModelUsage extends UsageSums {
  model: string
  /** Id of the adapter version; null = the base model, or not told apart. */
  adapterVersionId: string | null
}

/** By model name, one or all; with `byVersion` by each one's adapter versions. */
export async function usageByModel(
  db: Db,
  period: UsageScope & {
    readonly tenantId: string
    readonly model?: string | undefined
    readonly byVersion?: boolean
  },
): Promise<ModelUsage[]> {
  const { model, byVersion = false } = period
  const filters = model === undefined ? {} : { model: [model] }
  const groupBy = byVersion ? (['model', 'adapterVersionId'] as const) : (['model'] as const)
  const totals = await usageTotals(db, { ...period, groupBy, filters })
  return totals.map((total) => {
    const { adapterVersionId } = total
    return { ...toSums(total), model: total.model ?? '', adapterVersionId }
  })
}

/** All that a tenant was ever charged. */
export async function ledgerTotals(
  db: Db,
  { tenantId }: { readonly tenantId: string },
): Promise<{ requests: number; amountPusd: bigint }> {
  const scope = { tenantId, start: new Date(0), end: FAR_FUTURE }
  const { rows } = await db.execute<{ requests: string; amount_pusd: string }>(sql`
    select coalesce(sum(requests), 0)::text as requests,
      coalesce(sum(amount_pusd), 0)::text as amount_pusd
    from (${usageLines(scope)}) as line`)
  const [all] = rows
  return {
    requests: toSafeNumber(all?.requests ?? '0'),
    amountPusd: BigInt(all?.amount_pusd ?? 0),
  }
}

/** Beyond any id's time; a whole hour, so that the roll-ups answer. */
const FAR_FUTURE = new Date(Date.UTC(9999, 0))

type Counter =
  | 'requests'
  | 'prompt_tokens'
  | 'cached_prompt_tokens'
  | 'completion_tokens'
  | 'gpu_us'
  | 'swap_us'
  | 'amount_pusd'
type TotalRow = Record<UsageGroup, string | null> & Record<Counter, string>

function toTotal(row: TotalRow): UsageTotal {
  const { tenantId, model, modelId, adapterVersionId, keyId, baseModel, priceId, priceBasis } = row
  return {
    ...{ tenantId, model, modelId, adapterVersionId, keyId, baseModel, priceId, priceBasis },
    hour: toInstant(row.hour),
    day: toInstant(row.day),
    requests: toSafeNumber(row.requests),
    promptTokens: toSafeNumber(row.prompt_tokens),
    cachedPromptTokens: toSafeNumber(row.cached_prompt_tokens),
    completionTokens: toSafeNumber(row.completion_tokens),
    gpuUs: toSafeNumber(row.gpu_us),
    swapUs: toSafeNumber(row.swap_us),
    costPusd: BigInt(row.amount_pusd),
  }
}

function toSums(total: UsageTotal): UsageSums {
  const { requests, promptTokens, cachedPromptTokens, completionTokens } = total
  const { gpuUs, swapUs, costPusd } = total
  return { requests, promptTokens, cachedPromptTokens, completionTokens, gpuUs, swapUs, costPusd }
}

function toInstant(seconds: string | null): Date | null {
  return seconds === null ? null : new Date(Number(seconds) * 1000)
}

function isGroup(name: string): name is UsageGroup {
  return name in GROUPS
}

/** A sum that a number cannot hold exactly is refused, not rounded. */
function toSafeNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError('a sum of usage exceeds 2^53')
  return value
}
