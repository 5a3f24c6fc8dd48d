/**
 * How a request's state becomes journal records and the last event of its stream. Pure: the
 * scheduler writes the records, then sends the events.
 */
import type { HostError } from '../errors.ts'
import type { JournalRecord, ProgressRow, SettledRecord } from '../journal/record.ts'
import { type FinishReason, type GenerateEvent, requestFacts, type Usage } from '../protocol.ts'
import { createUsageEvent, NO_USAGE } from '../telemetry/usage-event.ts'
import type { Choice } from './choice.ts'
import type { LiveRequest } from './live-request.ts'

export interface Ending<C extends Choice = Choice> {
  readonly owner: LiveRequest<C>
  readonly finish: FinishReason
  readonly error: HostError | null
}

export interface HostIdentity {
  readonly hostId: string
  readonly epoch: number
}

export interface Settlement<C extends Choice = Choice> {
  readonly ending: Ending<C>
  readonly record: SettledRecord
  readonly lastEvent: GenerateEvent
}

/** Of a request whose choices have all ended by themselves. */
export function toEnding<C extends Choice>(owner: LiveRequest<C>): Ending<C> {
  return { owner, finish: owner.finish ?? 'stop', error: null }
}

export function settle<C extends Choice>(
  ending: Ending<C>,
  host: HostIdentity,
  now: { readonly us: number; readonly iso: string },
): Settlement<C> {
  const { owner, finish, error } = ending
  const { totals, source, ttftUs } = owner
  const event = createUsageEvent({
    request: requestFacts.parse(owner.request),
    hostId: host.hostId,
    epoch: host.epoch,
    finish,
    totals,
    queueUs: owner.queueUs(now.us),
    ttftUs,
    swapUs: owner.swapUs,
    adapterBytes: owner.adapterBytes,
    source,
    startedAt: owner.startedAt,
    endedAt: now.iso,
    origin: 'engine',
  })
  const usage: Usage =
    event === null
      ? NO_USAGE
      : {
          prompt_tokens: event.prompt_tokens,
          cached_prompt_tokens: event.cached_prompt_tokens,
          completion_tokens: event.completion_tokens,
        }
  const lastEvent: GenerateEvent =
    error === null
      ? {
          type: 'end',
          finish_reason: finish,
          usage,
          adapter_source: source,
          ttft_us: ttftUs ?? 0,
          gpu_us: totals.gpuUs,
          queue_us: owner.queueUs(now.us),
          swap_us: owner.swapUs,
        }
      : { type: 'error', code: error.code, message: error.message, param: error.param, usage }
  return {
    ending,
    record: { t: 'settled', n: owner.handle, code: error?.code ?? null, event },
    lastEvent,
  }
}

export function toOpened(owner: LiveRequest): JournalRecord {
  return {
    t: 'opened',
    n: owner.handle,
    at: owner.startedAt,
    request: requestFacts.parse(owner.request),
  }
}

export function toStarted(owner: LiveRequest, nowUs: number): JournalRecord {
  return {
    t: 'started',
    n: owner.handle,
    queue_us: owner.queueUs(nowUs),
    ttft_us: owner.ttftUs ?? 0,
    swap_us: owner.swapUs,
    adapter_bytes: owner.adapterBytes,
    source: owner.source,
    cached_prompt_tokens: owner.totals.cachedPromptTokens,
  }
}

export function toProgress(owners: Iterable<LiveRequest>): JournalRecord[] {
  const rows = Array.from(owners, ({ handle, totals }): ProgressRow => {
    const { promptRows, completionTokens, gpuUs } = totals
    return [handle, promptRows, completionTokens, gpuUs]
  })
  return rows.length === 0 ? [] : [{ t: 'progress', rows }]
}
