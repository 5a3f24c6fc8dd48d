/**
 * Usage and cost per minute, hour or day, split by tenant, key and model as asked: what the
 * organization's usage and costs are read from. Exact at any moment, like usageTotals.
 */
import { type SQL, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { countedEntries } from './usage-rollups.ts'
import { type UsageScope, usageLines } from './usage-totals.ts'

export type BucketWidth = 'minute' | 'hour' | 'day'
export type BucketGroup = 'tenantId' | 'keyId' | 'model'

const GROUPS: Readonly<Record<BucketGroup, SQL>> = {
  tenantId: sql`line.tenant_id`,
  keyId: sql`line.key_id`,
  model: sql`line.model`,
}

export interface BucketQuery {
  /** Absent = all tenants; for the operator alone. */
  readonly tenantIds?: readonly string[] | undefined
  /** Inclusive; start of a bucket. */
  readonly start: Date
  /** Exclusive; end of a bucket. */
  readonly end: Date
  readonly width: BucketWidth
  readonly groupBy: readonly BucketGroup[]
  /** Absent = all. */
  readonly keyIds?: readonly string[] | undefined
  /** Names without a version. Absent = all. */
  readonly models?: readonly string[] | undefined
}

/** One group in one bucket; a field that was not grouped by is null. */
export interface UsageBucket extends Readonly<Record<BucketGroup, string | null>> {
  readonly start: Date
  readonly requests: bigint
  /** Computed ones, without the cached. */
  readonly promptTokens: bigint
  readonly cachedPromptTokens: bigint
  readonly completionTokens: bigint
  /** Exact pico-USD of each kind of token; together the ledger's amount. */
  readonly promptPusd: bigint
  readonly cachedPromptPusd: bigint
  readonly completionPusd: bigint
}

interface BucketRow extends Record<string, unknown> {
  readonly start: string
  readonly tenant_id: string | null
  readonly key_id: string | null
  readonly model: string | null
  readonly requests: string
  readonly prompt: string
  readonly cached: string
  readonly completion: string
  readonly prompt_pusd: string
  readonly cached_pusd: string
  readonly completion_pusd: string
}

/** In the order of time, then of the groups. Buckets without usage have no row. */
export async function usageBuckets(db: Db, query: BucketQuery): Promise<UsageBucket[]> {
  const { tenantIds, keyIds, models, width, groupBy } = query
  const group = (name: BucketGroup) => (groupBy.includes(name) ? GROUPS[name] : sql`null::text`)
  const sum = (amount: SQL) => sql`coalesce(sum(${amount}), 0)::text`
  const [cached, completion] = [sql`line.cached_prompt_tokens`, sql`line.completion_tokens`]
  const prompt = sql`line.prompt_tokens - ${cached}`
  const { rows } = await db.execute<BucketRow>(sql`
    select extract(epoch from date_trunc(${sql.raw(`'${width}'`)}, line.at, 'UTC'))::bigint::text
        as start,
      ${group('tenantId')} as tenant_id, ${group('keyId')} as key_id, ${group('model')} as model,
      ${sum(sql`line.requests`)} as requests, ${sum(prompt)} as prompt, ${sum(cached)} as cached,
      ${sum(completion)} as completion,
      ${sum(sql`(${prompt}) * price.prompt_pusd`)} as prompt_pusd,
      ${sum(sql`${cached} * price.cached_prompt_pusd`)} as cached_pusd,
      ${sum(sql`${completion} * price.completion_pusd`)} as completion_pusd
    from (${bucketLines(query)}) as line left join prices price on price.id = line.price_id
    where ${isOneOf(sql`line.tenant_id`, tenantIds)} and ${isOneOf(sql`line.key_id`, keyIds)}
      and ${isOneOf(sql`line.model`, models)}
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4`)
  return rows.map(toBucket)
}

function isOneOf(column: SQL, wanted: readonly string[] | undefined): SQL {
  if (wanted === undefined) return sql`true`
  return wanted.length === 0 ? sql`false` : sql`${column} in ${[...wanted]}`
}

/** Roll-ups know hours; minutes come from the entries. */
function bucketLines({ tenantIds, start, end, width }: BucketQuery): SQL {
  const [only] = tenantIds ?? []
  const tenantId = tenantIds?.length === 1 && only !== undefined ? only : null
  const scope: UsageScope = { tenantId, start, end }
  if (width !== 'minute')
    return sql`select hour as at, lines.* from (${usageLines(scope)}) as lines`
  const isInside = sql`${tenantId === null ? sql`true` : sql`entry.tenant_id = ${tenantId}`}
    and entry.occurred_at >= ${start.toISOString()}::timestamptz
    and entry.occurred_at < ${end.toISOString()}::timestamptz`
  return sql`select occurred_at as at, entries.* from (${countedEntries(isInside)}) as entries`
}

function toBucket(row: BucketRow): UsageBucket {
  return {
    start: new Date(Number(row.start) * 1000),
    tenantId: row.tenant_id,
    keyId: row.key_id,
    model: row.model,
    requests: BigInt(row.requests),
    promptTokens: BigInt(row.prompt),
    cachedPromptTokens: BigInt(row.cached),
    completionTokens: BigInt(row.completion),
    promptPusd: BigInt(row.prompt_pusd),
    cachedPromptPusd: BigInt(row.cached_pusd),
    completionPusd: BigInt(row.completion_pusd),
  }
}
