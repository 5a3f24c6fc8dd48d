/**
 * Pages of OpenAI's organization usage and costs: every bucket of the page, with results where
 * there was usage. Amounts are JSON numbers, as clients expect; `x_pusd` beside one is exact.
 */
import { formatUsd } from '#db/money.ts'
import type { UsageBucket } from '#db/queries/usage-buckets.ts'
import type { ReportQuery } from './organization-query.ts'

/** Kinds of token as costs name them: `<model>, input_tokens`. */
const LINE_ITEMS = [
  ['input_tokens', 'promptTokens', 'promptPusd'],
  ['input_cached_tokens', 'cachedPromptTokens', 'cachedPromptPusd'],
  ['output_tokens', 'completionTokens', 'completionPusd'],
] as const

export function toUsagePage(query: ReportQuery, buckets: readonly UsageBucket[]) {
  return toPage(query, buckets, (bucket) => [toUsageResult(bucket)])
}

export function toCostsPage(query: ReportQuery, buckets: readonly UsageBucket[]) {
  const { groups, lineItems } = query
  return toPage(query, buckets, (bucket) =>
    groups.includes('line_item')
      ? toLineItems(bucket)
          .filter(({ name }) => lineItems?.includes(name) ?? true)
          .map((item) => toCostResult(bucket, item.pusd, item))
      : [toCostResult(bucket, sumOf(bucket))],
  )
}

function toPage<Result>(
  { start, end, width, nextPage }: ReportQuery,
  buckets: readonly UsageBucket[],
  toResults: (bucket: UsageBucket) => Result[],
) {
  const byStart = new Map<number, Result[]>()
  for (const bucket of buckets) {
    const at = bucket.start.getTime()
    byStart.set(at, [...(byStart.get(at) ?? []), ...toResults(bucket)])
  }
  const data = []
  for (let at = start.getTime(); at < end.getTime(); at += width.seconds * 1000) {
    data.push({
      object: 'bucket' as const,
      start_time: at / 1000,
      end_time: at / 1000 + width.seconds,
      results: byStart.get(at) ?? [],
    })
  }
  return { object: 'page' as const, data, has_more: nextPage !== null, next_page: nextPage }
}

function toUsageResult(bucket: UsageBucket) {
  const uncached = toNumber(bucket.promptTokens)
  const cached = toNumber(bucket.cachedPromptTokens)
  const output = toNumber(bucket.completionTokens)
  return {
    object: 'organization.usage.completions.result' as const,
    input_tokens: toNumber(bucket.promptTokens + bucket.cachedPromptTokens),
    input_cached_tokens: cached,
    input_uncached_tokens: uncached,
    input_text_tokens: uncached,
    input_cached_text_tokens: cached,
    input_audio_tokens: 0,
    output_tokens: output,
    output_text_tokens: output,
    output_audio_tokens: 0,
    num_model_requests: toNumber(bucket.requests),
    project_id: bucket.tenantId,
    user_id: null,
    api_key_id: bucket.keyId,
    model: bucket.model,
    batch: null,
    service_tier: null,
  }
}

interface LineItem {
  readonly name: string
  readonly quantity: number
  readonly pusd: bigint
}

function toLineItems(bucket: UsageBucket): LineItem[] {
  return LINE_ITEMS.map(([kind, tokens, pusd]) => ({
    name: `${bucket.model}, ${kind}`,
    quantity: toNumber(bucket[tokens]),
    pusd: bucket[pusd],
  })).filter(({ quantity }) => quantity !== 0)
}

function toCostResult(bucket: UsageBucket, pusd: bigint, item: LineItem | null = null) {
  return {
    object: 'organization.costs.result' as const,
    amount: { value: Number(formatUsd(pusd)), currency: 'usd', x_pusd: String(pusd) },
    line_item: item?.name ?? null,
    quantity: item?.quantity ?? null,
    quantity_unit: item === null ? null : ('tokens' as const),
    project_id: bucket.tenantId,
    api_key_id: bucket.keyId,
    user_id: null,
  }
}

function sumOf(bucket: UsageBucket): bigint {
  return bucket.promptPusd + bucket.cachedPromptPusd + bucket.completionPusd
}

/** A sum that a number cannot hold exactly is refused, not rounded. */
function toNumber(value: bigint): number {
  const number = Number(value)
  if (!Number.isSafeInteger(number)) throw new RangeError('a sum of usage exceeds 2^53')
  return number
}
