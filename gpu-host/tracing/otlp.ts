/**
 * Finished spans → the body of an OTLP/HTTP request in JSON (opentelemetry-proto, trace/v1): ids in
 * hex, whole numbers of 64 bits as decimal text. Pure.
 *
 * What may stand in a span is a closed list of names. None of them is for text that a client sent
 * or got: prompts, completions and keys have no place to go.
 */
import type { TraceContext } from './trace-context.ts'

/** Those of the semantic conventions, and our own. */
export type SpanAttribute =
  | 'http.request.method'
  | 'http.response.status_code'
  | 'http.route'
  | 'server.address'
  | 'server.port'
  | 'error.type'
  | 'gen_ai.operation.name'
  | 'gen_ai.provider.name'
  | 'gen_ai.request.model'
  | 'gen_ai.request.max_tokens'
  | 'gen_ai.request.temperature'
  | 'gen_ai.request.top_p'
  | 'gen_ai.request.choice.count'
  | 'gen_ai.request.stream'
  | 'gen_ai.response.id'
  | 'gen_ai.response.finish_reasons'
  | 'gen_ai.response.time_to_first_chunk'
  | 'gen_ai.usage.input_tokens'
  | 'gen_ai.usage.output_tokens'
  | 'gen_ai.usage.cache_read.input_tokens'
  | 'nozzle.request_id'
  | 'nozzle.tenant_id'
  | 'nozzle.attempt'
  | 'nozzle.host_id'
  | 'nozzle.base_model'
  | 'nozzle.adapter_digest'
  | 'nozzle.adapter_source'
  | 'nozzle.queue_seconds'
  | 'nozzle.swap_seconds'
  | 'nozzle.ttft_seconds'
  | 'nozzle.gpu_seconds'

export type AttributeValue = string | number | boolean | readonly string[]
/** What is undefined is left out. */
export type SpanAttributes = Readonly<Partial<Record<SpanAttribute, AttributeValue | undefined>>>

/** `server`: answers a call; `client`: makes one. */
export type SpanKind = 'server' | 'client'
const KINDS: Readonly<Record<SpanKind, number>> = { server: 2, client: 3 }
const STATUS_ERROR = 2

export interface FinishedSpan {
  readonly context: TraceContext
  /** null = the first of its trace. */
  readonly parentSpanId: string | null
  readonly name: string
  readonly kind: SpanKind
  /** Unix milliseconds, with fractions. */
  readonly startMs: number
  readonly endMs: number
  readonly attributes: SpanAttributes
  readonly isError: boolean
}

/** Who made the spans. */
export interface SpanResource {
  readonly serviceName: string
  readonly serviceVersion: string
  /** Absent = not known, as in a Worker. */
  readonly instanceId?: string
}

export function toOtlpRequest(resource: SpanResource, spans: readonly FinishedSpan[]): object {
  const { serviceName, serviceVersion, instanceId } = resource
  const about = {
    'service.name': serviceName,
    'service.version': serviceVersion,
    'service.instance.id': instanceId,
  }
  const scope = { name: 'nozzle', version: serviceVersion }
  return {
    resourceSpans: [
      {
        resource: { attributes: toAttributes(about) },
        scopeSpans: [{ scope, spans: spans.map(toSpan) }],
      },
    ],
  }
}

function toSpan(span: FinishedSpan): object {
  const { traceId, spanId } = span.context
  return {
    traceId,
    spanId,
    ...(span.parentSpanId !== null && { parentSpanId: span.parentSpanId }),
    name: span.name,
    kind: KINDS[span.kind],
    startTimeUnixNano: toNanoseconds(span.startMs),
    endTimeUnixNano: toNanoseconds(span.endMs),
    attributes: toAttributes(span.attributes),
    status: span.isError ? { code: STATUS_ERROR } : {},
  }
}

function toAttributes(attributes: Readonly<Record<string, AttributeValue | undefined>>): object[] {
  return Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: toValue(value) }],
  )
}

function toValue(value: AttributeValue): object {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (typeof value !== 'number') {
    return { arrayValue: { values: value.map((stringValue) => ({ stringValue })) } }
  }
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}

/** To the microsecond, which is all that a double holds of today's dates. */
function toNanoseconds(ms: number): string {
  return String(BigInt(Math.round(ms * 1000)) * 1000n)
}
