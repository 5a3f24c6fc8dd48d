import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { type FinishedSpan, toOtlpRequest } from './otlp.ts'
import { SpanExporter } from './span-exporter.ts'
import { createSpanId, createTraceId, parseTraceparent, toTraceparent } from './trace-context.ts'
import { isSampled, toTracingSettings, tracingEnvironment } from './tracing-settings.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const settingsOf = (env: Record<string, string>) =>
  toTracingSettings(z.object(tracingEnvironment).parse(env))

describe('traceparent', () => {
  it.each(['00', '01', '02', '03'])('goes through as it came, with flags %s', (flags) => {
    const header = `00-${TRACE}-${SPAN}-${flags}`
    const context = parseTraceparent(header)
    expect(context && toTraceparent(context)).toBe(header)
  })

  it('of a later version is read as far as it is known', () => {
    const context = parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-comes-then`)
    expect(context).toMatchObject({ traceId: TRACE, spanId: SPAN, isSampled: true })
  })

  it.each([
    null,
    '',
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-1`,
    `00-${TRACE}x-${SPAN}-01`,
  ])('is not taken from %s', (header) => {
    expect(parseTraceparent(header)).toBeNull()
  })

  it('has ids of its own where it is new', () => {
    const ids = Array.from({ length: 100 }, createTraceId)
    expect(new Set(ids).size).toBe(100)
    expect(createSpanId()).toMatch(/^[0-9a-f]{16}$/)
  })
})

describe('the settings of tracing', () => {
  it('are off without an endpoint, and where OpenTelemetry is switched off', () => {
    expect(settingsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: '' })).toBeNull()
    expect(
      settingsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a', OTEL_SDK_DISABLED: 'true' }),
    ).toBeNull()
  })

  it('add the path to a base and leave a whole address alone', () => {
    const base = settingsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://a.test/otlp/' })
    expect(base?.url).toBe('https://a.test/otlp/v1/traces')
    const whole = settingsOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://a.test/in' })
    expect(whole?.url).toBe('https://a.test/in')
  })

  it.each([
    { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' },
    { OTEL_TRACES_SAMPLER: 'jaeger_remote' },
    { OTEL_TRACES_SAMPLER_ARG: '2' },
    { OTEL_EXPORTER_OTLP_HEADERS: 'no value' },
  ])('refuse %o by name', (env) => {
    const parsed = z.object(tracingEnvironment).safeParse(env)
    expect(parsed.error?.issues.map(({ path }) => path[0])).toEqual(Object.keys(env))
  })

  it('sample a share of the traces, the same in every process, and as the caller said', () => {
    const settings = settingsOf({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://a',
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
    })
    if (settings === null) throw new Error('no settings')
    const traces = Array.from({ length: 2000 }, createTraceId)
    const share = traces.filter((id) => isSampled(settings, id, null)).length / traces.length
    expect(share).toBeGreaterThan(0.2)
    expect(share).toBeLessThan(0.3)
    const parent = { traceId: TRACE, spanId: SPAN, isSampled: true, isRandom: false }
    expect(isSampled(settings, TRACE, parent)).toBe(true)
    expect(isSampled(settings, TRACE, { ...parent, isSampled: false })).toBe(false)
    const last = (digits: string) => isSampled(settings, `${'0'.repeat(18)}${digits}`, null)
    expect([last('c'.padEnd(14, '0')), last('bf'.padEnd(14, '0'))]).toEqual([true, false])
  })
})

const span = (name: string): FinishedSpan => ({
  context: { traceId: TRACE, spanId: SPAN, isSampled: true, isRandom: true },
  parentSpanId: null,
  name,
  kind: 'server',
  startMs: 1_700_000_000_000.25,
  endMs: 1_700_000_000_001,
  attributes: {},
  isError: false,
})
const resource = { serviceName: 'test', serviceVersion: '0' }

describe('spans', () => {
  it('keep their times to the microsecond', () => {
    expect(JSON.stringify(toOtlpRequest(resource, [span('a')]))).toContain(
      '"startTimeUnixNano":"1700000000000250000","endTimeUnixNano":"1700000000001000000"',
    )
  })

  it('beyond what may wait are dropped, and those that a collector does not take', async () => {
    const counts: Record<string, number> = {}
    const changes: (string | null)[] = []
    let status = 200
    const exporter = new SpanExporter({
      ...{ resource, settings: { url: 'http://a.test', headers: {} } },
      fetch: async () => new Response(null, { status }),
      onOutcome: (outcome, spans) => {
        counts[outcome] = (counts[outcome] ?? 0) + spans
      },
      onChange: (reason) => changes.push(reason),
    })
    for (let n = 0; n < 2050; n++) exporter.add(span('a'))
    await exporter.flush()
    status = 503
    for (let n = 0; n < 3; n++) {
      exporter.add(span('b'))
      await exporter.flush()
    }
    status = 200
    exporter.add(span('c'))
    await exporter.flush()
    expect(counts).toEqual({ exported: 2049, dropped: 2, failed: 3 })
    expect(changes).toEqual(['the collector answered 503', null])
  })
})
