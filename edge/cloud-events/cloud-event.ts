/**
 * A ledger entry of usage as a CloudEvent 1.0. Pure. Its source and id say which charge it is, so a
 * receiver that drops what it has seen counts each once. A charge that was taken back comes as a
 * second event whose counts and cost are below zero: a sum over both is what is owed.
 */
import type { ExportedEntry } from '#db/queries/event-exports.ts'

export const USAGE_EVENT_TYPE = 'llm.usage.v1'

export type CloudEvent = ReturnType<typeof toCloudEvent>

export function toCloudEvent(entry: ExportedEntry) {
  const sign = entry.kind === 'usage' ? 1 : -1
  const count = (tokens: number): number => (tokens === 0 ? 0 : sign * tokens)
  return {
    specversion: '1.0',
    type: USAGE_EVENT_TYPE,
    /** Who measured it: a host of the pool, or `edge`. */
    source: `host/${encodeURIComponent(entry.hostId)}`,
    /** `<request id>/<attempt>/usage`, or `…/usage_reversal`. */
    id: entry.entryId,
    /** Billing time. */
    time: entry.occurredAt.toISOString(),
    subject: entry.tenantId,
    datacontenttype: 'application/json',
    data: {
      kind: entry.kind,
      request_id: entry.requestId,
      attempt: entry.attempt,
      model: entry.model,
      model_id: entry.modelId,
      adapter_version_id: entry.adapterVersionId,
      base_model: entry.baseModel,
      key_id: entry.keyId,
      finish_reason: entry.finishReason,
      reported_by: entry.source,
      requests: sign,
      prompt_tokens: count(entry.promptTokens),
      cached_prompt_tokens: count(entry.cachedPromptTokens),
      completion_tokens: count(entry.completionTokens),
      total_tokens: count(entry.promptTokens + entry.completionTokens),
      gpu_us: count(entry.gpuUs),
      swap_us: count(entry.swapUs),
      adapter_bytes: entry.adapterBytes,
      /** Integer pico-USD as text: JSON numbers round. */
      cost_pusd: String(sign < 0 ? -entry.amountPusd : entry.amountPusd),
      price_id: entry.priceId,
      price_basis: entry.priceBasis,
    },
  }
}
