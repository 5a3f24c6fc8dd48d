/**
 * How a sequence's state becomes journal records and the last event of its stream. Pure: the
 * scheduler writes the records, then sends the events.
 */
import type { HostError } from '../errors.ts'
import type { JournalRecord, RequestFacts, SettledRecord } from '../journal/record.ts'
import type { FinishReason, GenerateEvent, GenerateRequest, Usage } from '../protocol.ts'
import { createUsageEvent } from '../telemetry/usage-event.ts'
import type { Sequence } from './sequence.ts'

export interface Ending {
  readonly sequence: Sequence
  readonly finish: FinishReason
  readonly error: HostError | null
}

export interface HostIdentity {
  readonly hostId: string
  readonly epoch: number
}

export interface Settlement {
  readonly record: SettledRecord
  readonly lastEvent: GenerateEvent
}

const NO_USAGE: Usage = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

export function settle(
  { sequence, finish, error }: Ending,
  host: HostIdentity,
  now: { readonly us: number; readonly iso: string },
): Settlement {
  const { timing, totals, source, lease } = sequence
  const ttftUs = timing.ttftUs
  const event = createUsageEvent({
    request: toRequestFacts(sequence.request),
    hostId: host.hostId,
    epoch: host.epoch,
    finish,
    totals,
    queueUs: timing.queueUs(now.us),
    ttftUs,
    swapUs: Math.round(lease?.swapUs ?? 0),
    source,
    startedAt: sequence.startedAt,
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
        }
      : { type: 'error', code: error.code, message: error.message, param: error.param, usage }
  return {
    record: { t: 'settled', n: sequence.handle, code: error?.code ?? null, event },
    lastEvent,
  }
}

export function toOpened(sequence: Sequence): JournalRecord {
  return {
    t: 'opened',
    n: sequence.handle,
    at: sequence.startedAt,
    request: toRequestFacts(sequence.request),
  }
}

export function toStarted(sequence: Sequence, nowUs: number): JournalRecord {
  return {
    t: 'started',
    n: sequence.handle,
    queue_us: sequence.timing.queueUs(nowUs),
    ttft_us: sequence.timing.ttftUs ?? 0,
    swap_us: Math.round(sequence.lease?.swapUs ?? 0),
    source: sequence.source,
  }
}

export function toProgress(sequences: readonly Sequence[]): JournalRecord[] {
  if (sequences.length === 0) return []
  const rows = sequences.map(
    ({ handle, promptRows, completionTokens, gpuUs }): [number, number, number, number] => [
      handle,
      promptRows,
      completionTokens,
      gpuUs,
    ],
  )
  return [{ t: 'progress', rows }]
}

function toRequestFacts(request: GenerateRequest): RequestFacts {
  return {
    request_id: request.request_id,
    tenant_id: request.tenant_id,
    key_id: request.key_id,
    model: request.model,
    model_id: request.model_id,
    adapter_version_id: request.adapter_version_id,
    adapter_digest: request.adapter_digest,
    base_model: request.base_model,
    price_version_id: request.price_version_id,
  }
}
