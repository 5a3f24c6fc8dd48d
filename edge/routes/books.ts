/**
 * The database's books, for the operator to hold against the hosts' journals: where they disagree
 * among themselves, every event with its charge, and the sums that invoices are made of.
 */
import { z } from 'zod'
import { readBookLag } from '#db/queries/book-lag.ts'
import {
  type BookDifference,
  type BookedEvent,
  listBookDifferences,
  listBookedEvents,
} from '#db/queries/reconcile.ts'
import { usageTotals } from '#db/queries/usage-totals.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { instant } from '../instant.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator } from '../tenant-access.ts'

const DIFFERENCES_MAX = 1000

export const booksPeriod = z.object({ start: instant, end: instant })
export const booksPage = booksPeriod.extend({
  limit: z.coerce.number().int().min(1).max(1000).default(1000),
  /** `<request id>/<attempt>` of the last event of the page before. */
  after: z
    .string()
    .regex(/^.{1,80}\/\d{1,4}$/s, 'must be <request id>/<attempt>')
    .transform((text) => {
      const slash = text.lastIndexOf('/')
      return { requestId: text.slice(0, slash), attempt: Number(text.slice(slash + 1)) }
    })
    .optional(),
})

const LAG_PERIOD_MS = 3_600_000

/** How far the books are behind, of the last hour where a request's end matters. */
export function showBookLag(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const since = new Date(deps.nowMs() - LAG_PERIOD_MS)
    const { rollupS, usageS, deadLetters } = await readBookLag(deps.db, { since })
    return c.json({ rollup_s: rollupS, usage_s: usageS, dead_letters: deadLetters })
  }
}

/** Up to 1000 of each kind of check. */
export function showBookDifferences(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const wish = parsePeriod(booksPeriod, c)
    const found = await listBookDifferences(deps.db, wish, DIFFERENCES_MAX)
    return c.json({ data: found.map(differenceToWire) })
  }
}

/** Events in the order of their ids; `next` is the `after` of the next page. */
export function showBookedEvents(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const wish = parsePeriod(booksPage, c)
    const after = wish.after ?? null
    const rows = await listBookedEvents(deps.db, { ...wish, after })
    const last = rows.length === wish.limit ? rows.at(-1)?.event : undefined
    const next = last === undefined ? null : `${last.requestId}/${last.attempt}`
    return c.json({ data: rows.map(eventToWire), next })
  }
}

/** What usage sums to by tenant: roll-ups and what they do not hold yet. */
export function showBookTotals(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { start, end } = parsePeriod(booksPeriod, c)
    const totals = await usageTotals(deps.db, { tenantId: null, start, end, groupBy: ['tenantId'] })
    return c.json({
      data: totals.map((total) => ({
        tenant_id: total.tenantId,
        requests: total.requests,
        prompt_tokens: total.promptTokens,
        cached_prompt_tokens: total.cachedPromptTokens,
        completion_tokens: total.completionTokens,
        gpu_us: total.gpuUs,
        swap_us: total.swapUs,
        cost_pusd: String(total.costPusd),
      })),
    })
  }
}

function parsePeriod<T extends typeof booksPeriod>(schema: T, c: EdgeContext): z.infer<T> {
  const wish = parseValue(schema, c.req.query())
  if (wish.start < wish.end) return wish
  throw new EdgeError('invalid_request', 'start must be before end', { param: 'start' })
}

function differenceToWire({ tenantId, ...difference }: BookDifference) {
  return { ...difference, tenant_id: tenantId }
}

/** The event as its host reported it. */
function eventToWire({ event, chargedPusd, priceId, isReversed }: BookedEvent) {
  return {
    event: {
      request_id: event.requestId,
      attempt: event.attempt,
      tenant_id: event.tenantId,
      key_id: event.keyId,
      model: event.model,
      model_id: event.modelId,
      adapter_version_id: event.adapterVersionId,
      adapter_digest: event.adapterDigest,
      base_model: event.baseModel,
      price_version_id: event.priceVersionId,
      lease_ids: event.leaseIds,
      host_id: event.hostId,
      epoch: event.epoch,
      prompt_tokens: event.promptTokens,
      cached_prompt_tokens: event.cachedPromptTokens,
      completion_tokens: event.completionTokens,
      finish_reason: event.finishReason,
      gpu_us: event.gpuUs,
      queue_us: event.queueUs,
      ttft_us: event.ttftUs,
      swap_us: event.swapUs,
      adapter_bytes: event.adapterBytes,
      adapter_source: event.adapterSource,
      started_at: event.startedAt.toISOString(),
      ended_at: event.endedAt.toISOString(),
      source: event.source,
    },
    occurred_at: event.occurredAt.toISOString(),
    charged_pusd: chargedPusd === null ? null : String(chargedPusd),
    price_id: priceId,
    is_reversed: isReversed,
  }
}
