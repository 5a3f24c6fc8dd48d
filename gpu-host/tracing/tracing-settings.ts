/**
 * Whether spans are made, of which requests, and where they go: OpenTelemetry's own environment
 * variables, as far as they are kept here. Pure.
 */
import { z } from 'zod'
import type { TraceContext } from './trace-context.ts'

/** Variables that are set to nothing are not set. */
const unset = (value: unknown): unknown => (value === '' ? undefined : value)
const optional = <T extends z.ZodType>(schema: T) => z.preprocess(unset, schema.optional())
const address = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' })

const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const

/** For the parser of a process' environment. */
export const tracingEnvironment = {
  /** Absent = no spans. `/v1/traces` is added. */
  OTEL_EXPORTER_OTLP_ENDPOINT: optional(address),
  /** In its place, whole. */
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: optional(address),
  /** `name=value,name=value`, values percent-encoded: what the collector asks for. */
  OTEL_EXPORTER_OTLP_HEADERS: optional(
    z.string().regex(/^\s*[^=,\s]+=[^,]*(,\s*[^=,\s]+=[^,]*)*$/, 'must be name=value,name=value'),
  ),
  OTEL_EXPORTER_OTLP_PROTOCOL: optional(
    z.literal('http/json', { error: 'must be http/json: no other protocol is spoken' }),
  ),
  OTEL_TRACES_SAMPLER: optional(z.enum(SAMPLERS)),
  /** Of the two `ratio` samplers, 0 … 1. */
  OTEL_TRACES_SAMPLER_ARG: optional(z.coerce.number().min(0).max(1)),
  OTEL_SERVICE_NAME: optional(z.string().max(200)),
  OTEL_SDK_DISABLED: optional(z.enum(['true', 'false'])),
}
const environment = z.object(tracingEnvironment)

export interface TracingSettings {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** A request that comes with a trace is sampled as its caller has decided. */
  readonly isParentBased: boolean
  /** Of the others, or of all: 0 … 1. */
  readonly ratio: number
  /** null = as the process calls itself. */
  readonly serviceName: string | null
}

/** null = no spans. */
export function toTracingSettings(env: z.infer<typeof environment>): TracingSettings | null {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: whole } = env
  const url = whole ?? (base === undefined ? null : `${base.replace(/\/+$/, '')}/v1/traces`)
  if (url === null || env.OTEL_SDK_DISABLED === 'true') return null
  const sampler = env.OTEL_TRACES_SAMPLER ?? 'parentbased_always_on'
  return {
    url,
    headers: parseHeaders(env.OTEL_EXPORTER_OTLP_HEADERS ?? ''),
    isParentBased: sampler.startsWith('parentbased_'),
    ratio: ratioOf(sampler, env.OTEL_TRACES_SAMPLER_ARG ?? 1),
    serviceName: env.OTEL_SERVICE_NAME ?? null,
  }
}

function ratioOf(sampler: (typeof SAMPLERS)[number], ratio: number): number {
  if (sampler.endsWith('always_on')) return 1
  return sampler.endsWith('always_off') ? 0 : ratio
}

function parseHeaders(list: string): Record<string, string> {
  const pairs = list.split(',').flatMap((pair): [string, string][] => {
    const at = pair.indexOf('=')
    return at < 0 ? [] : [[pair.slice(0, at).trim(), decoded(pair.slice(at + 1).trim())]]
  })
  return Object.fromEntries(pairs)
}

/** As it stands where it is not percent-encoded. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

/** 2⁵⁶: a trace id's last seven bytes are what every process of a trace decides by. */
const IDS = 2 ** 56

/** The same for a trace in every process with the same ratio. */
export function isSampled(
  { isParentBased, ratio }: TracingSettings,
  traceId: string,
  parent: TraceContext | null,
): boolean {
  if (isParentBased && parent !== null) return parent.isSampled
  return Number.parseInt(traceId.slice(-14), 16) >= IDS * (1 - ratio)
}
