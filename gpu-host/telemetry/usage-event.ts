/**
 * The billing rule, in one place and pure. What a request owes follows from three facts: prompt
 * rows that the engine ran, tokens that it generated and the journal holds, and how the request
 * ended.
 * - A first attempt that failed before its first token owes nothing and leaves no usage event. A
 *   later one leaves an event of zeros, which takes the place of what the attempts before it owed.
 * - A client that left owes the prompt rows that ran and the tokens generated until then.
 * - Everything else owes the whole prompt and every token generated, those too that a stop string
 *   hid and the end-of-generation token: the engine ran a row for each.
 */
import type { AdapterSource, FinishReason, RequestFacts, Usage, UsageEvent } from '../protocol.ts'

export interface RequestTotals {
  /** Prompt tokens that rows of it have read so far: run, or found in the prefix cache. */
  readonly promptRows: number
  readonly cachedPromptTokens: number
  readonly completionTokens: number
  readonly gpuUs: number
}

export const NO_USAGE: Usage = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

/** null = owes nothing. */
export function billableUsage(finish: FinishReason, totals: RequestTotals): Usage | null {
  const { promptRows, cachedPromptTokens, completionTokens } = totals
  if (finish === 'error' && completionTokens === 0) return null
  if (finish === 'abort' && promptRows === 0) return null
  return {
    prompt_tokens: promptRows,
    cached_prompt_tokens: Math.min(cachedPromptTokens, promptRows),
    completion_tokens: completionTokens,
  }
}

export interface UsageEventInput {
  readonly request: RequestFacts
  readonly hostId: string
  readonly epoch: number
  readonly finish: FinishReason
  readonly totals: RequestTotals
  readonly queueUs: number
  /** null = no token was made. */
  readonly ttftUs: number | null
  readonly swapUs: number
  readonly adapterBytes: number
  readonly source: AdapterSource
  readonly startedAt: string
  readonly endedAt: string
  readonly origin: UsageEvent['source']
}

export function createUsageEvent(input: UsageEventInput): UsageEvent | null {
  const owed = billableUsage(input.finish, input.totals)
  const usage = owed ?? (input.request.attempt > 1 ? NO_USAGE : null)
  if (usage === null) return null
  return {
    ...input.request,
    ...usage,
    host_id: input.hostId,
    epoch: input.epoch,
    finish_reason: input.finish,
    gpu_us: input.totals.gpuUs,
    queue_us: input.queueUs,
    ttft_us: input.ttftUs,
    swap_us: input.swapUs,
    adapter_bytes: input.adapterBytes,
    adapter_source: input.source,
    started_at: input.startedAt,
    ended_at: input.endedAt,
    source: input.origin,
  }
}
