/** What a tenant used and what it costs, from the ledger. Money is a string: JSON numbers round. */
import { z } from 'zod'
import { versionNumbers } from '#db/queries/adapter-versions.ts'
import { type ChargedUsageEvent, listUsageEvents, type UsagePosition } from '#db/queries/usage.ts'
import { type FeedPosition, feedEnd, listFedEntries } from '#db/queries/usage-feed.ts'
import { usageByModel } from '#db/queries/usage-totals.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { instant } from '../instant.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant } from '../tenant-access.ts'

export const usagePeriod = z.object({
  start: instant.optional(),
  end: instant.optional(),
  model: z.string().min(1).max(200).optional(),
  by: z.enum(['model', 'version']).default('model'),
})

export const usagePage = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  after: z
    .string()
    .max(90)
    .regex(/^.+\/\d{1,4}$/, 'must be the next of a page')
    .transform(toPosition)
    .optional(),
})

export const usageFeed = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  after: z
    .string()
    .max(120)
    .regex(/^\d{1,18}\//, 'must be the next of a feed')
    .transform(toFeedPosition)
    .optional(),
})

/** Per model, or per version of each; without a period, the current month in UTC so far. */
export function showUsage(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const wish = parseValue(usagePeriod, c.req.query())
    const now = new Date(deps.nowMs())
    const start = wish.start ?? new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth()))
    const end = wish.end ?? new Date(now.getTime() + 1)
    if (start >= end) {
      const why = wish.end === undefined ? 'start lies in the future' : 'start must be before end'
      throw new EdgeError('invalid_request', why, { param: 'start' })
    }
    const { model } = wish
    const byVersion = wish.by === 'version'
    const rows = await usageByModel(deps.db, { tenantId: tenant.id, start, end, model, byVersion })
    const ids = rows.flatMap(({ adapterVersionId }) => adapterVersionId ?? [])
    const numbers = await versionNumbers(deps.db, { tenantId: tenant.id, ids })
    const sum = (
      field: 'requests' | 'promptTokens' | 'cachedPromptTokens' | 'completionTokens' | 'gpuUs',
    ) => rows.reduce((total, row) => total + row[field], 0)
    return c.json({
      start: start.toISOString(),
      end: end.toISOString(),
      data: rows.map((row) => ({
        model: row.model,
        ...(byVersion && { version: numbers.get(row.adapterVersionId ?? '') ?? null }),
        requests: row.requests,
        prompt_tokens: row.promptTokens,
        cached_prompt_tokens: row.cachedPromptTokens,
        completion_tokens: row.completionTokens,
        gpu_us: row.gpuUs,
        cost_pusd: String(row.costPusd),
      })),
      totals: {
        requests: sum('requests'),
        prompt_tokens: sum('promptTokens'),
        cached_prompt_tokens: sum('cachedPromptTokens'),
        completion_tokens: sum('completionTokens'),
        gpu_us: sum('gpuUs'),
        cost_pusd: String(rows.reduce((total, row) => total + row.costPusd, 0n)),
      },
    })
  }
}

/** Single events, newest first; `next` is the `after` of the next page. */
export function showUsageEvents(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const { limit, after } = parseValue(usagePage, c.req.query())
    const rows = await listUsageEvents(deps.db, { tenantId: tenant.id, limit, after })
    const last = rows.length === limit ? rows.at(-1) : undefined
    const next = last === undefined ? null : `${last.requestId}/${last.attempt}`
    return c.json({ data: rows.map(toWire), next })
  }
}

/**
 * Events in the order in which they were stored, oldest first; `next` is always the `after` of the
 * next call, so that a caller who goes on misses none. Without `after`: none, and where to begin.
 * An event comes again once a later attempt at its request is charged in its place.
 */
export function showUsageFeed(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const { id: tenantId } = await accessTenant(deps, c)
    const { limit, after } = parseValue(usageFeed, c.req.query())
    if (after === undefined) {
      return c.json({ data: [], next: toFeedCursor(await feedEnd(deps.db)) })
    }
    const entries = await listFedEntries(deps.db, { tenantId, after, limit })
    const rows =
      entries.length === 0 ? [] : await listUsageEvents(deps.db, { tenantId, limit, only: entries })
    const byKey = new Map(rows.map((row) => [`${row.requestId}/${row.attempt}`, row]))
    const keys = new Set(entries.map(({ requestId, attempt }) => `${requestId}/${attempt}`))
    const data = [...keys].flatMap((key) => byKey.get(key) ?? [])
    const next = toFeedCursor(entries.at(-1)?.position ?? after)
    return c.json({ data: data.map(toWire), next })
  }
}

/** `<transaction>/<ledger entry>`, as `next` says it. */
function toFeedPosition(text: string): FeedPosition {
  const slash = text.indexOf('/')
  return { ingestXid: text.slice(0, slash), entryId: text.slice(slash + 1) }
}

function toFeedCursor({ ingestXid, entryId }: FeedPosition): string {
  return `${ingestXid}/${entryId}`
}

/** `<request id>/<attempt>`, as `next` says it. */
function toPosition(text: string): UsagePosition {
  const slash = text.lastIndexOf('/')
  return { requestId: text.slice(0, slash), attempt: Number(text.slice(slash + 1)) }
}

function toWire(event: ChargedUsageEvent) {
  return {
    request_id: event.requestId,
    attempt: event.attempt,
    superseded: event.isSuperseded,
    key_id: event.keyId,
    model: event.model,
    adapter_digest: event.adapterDigest,
    base_model: event.baseModel,
    prompt_tokens: event.promptTokens,
    cached_prompt_tokens: event.cachedPromptTokens,
    completion_tokens: event.completionTokens,
    finish_reason: event.finishReason,
    adapter_source: event.adapterSource,
    gpu_us: event.gpuUs,
    queue_us: event.queueUs,
    ttft_us: event.ttftUs,
    swap_us: event.swapUs,
    host_id: event.hostId,
    source: event.source,
    started_at: event.startedAt.toISOString(),
    ended_at: event.endedAt.toISOString(),
    billed_at: event.occurredAt.toISOString(),
    cost_pusd: String(event.costPusd),
    price_version_id: event.priceVersionId,
    price_basis: event.priceBasis,
  }
}
