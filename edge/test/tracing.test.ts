/** One trace from the client over the edge to the host, and what its spans say. */

import { randomBytes } from 'node:crypto'
import * as conventions from '@opentelemetry/semantic-conventions/incubating'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from './support/otlp-receiver.ts'
import type { TestTenant } from './support/pool-client.ts'
import { promptTokens, TestPool, until } from './support/test-pool.ts'

const CALLER = '00f067aa0ba902b7'
const TRACESTATE = 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'

/** As a client's own spans would begin it. */
function callersTrace(flags = '01'): { traceId: string; traceparent: string } {
  const traceId = randomBytes(16).toString('hex')
  return { traceId, traceparent: `00-${traceId}-${CALLER}-${flags}` }
}

interface Rig {
  readonly pool: TestPool
  readonly tenant: TestTenant
  readonly receiver: OtlpReceiver
  /** Headers of the calls to hosts. */
  readonly calls: Headers[]
  readonly hostLogs: Readonly<Record<string, unknown>>[]
  ask(headers: Readonly<Record<string, string>>, fields?: object): Promise<Response>
}

/** On; on with a sampler and headers of its own; off. A database takes its time to start. */
let on: Rig
let choosy: Rig
let off: Rig
beforeAll(async () => {
  on = await start({})
  choosy = await start({
    OTEL_TRACES_SAMPLER: 'parentbased_always_off',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-team=a%20b,authorization=Basic abc',
  })
  off = await start(null)
})
afterAll(async () => {
  for (const { pool, receiver } of [on, choosy, off]) {
    await pool.stop()
    await receiver.close()
  }
})

async function start(variables: Readonly<Record<string, string>> | null): Promise<Rig> {
  const receiver = await startOtlpReceiver()
  const calls: Headers[] = []
  const hostLogs: Rig['hostLogs'] = []
  const environment =
    variables === null ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: `${receiver.url}/`, ...variables }
  const pool = await TestPool.start({
    environment,
    fetch: (input, init) => {
      if (String(input).endsWith('/generate')) calls.push(new Headers(init?.headers))
      return fetch(input, init)
    },
  })
  await pool.addHost({
    environment,
    log: (_level, message, fields) => hostLogs.push({ message, ...fields }),
  })
  const tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
  const rig: Rig = {
    ...{ pool, tenant, receiver, calls, hostLogs },
    ask: (headers, fields) =>
      fetch(`${pool.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.key}`, ...headers },
        body: JSON.stringify({
          model: 'support',
          messages: [{ role: 'user', content: 'hello' }],
          max_tokens: 5,
          temperature: 0.5,
          ...fields,
        }),
      }),
  }
  return rig
}

function spansOf({ receiver }: Rig, traceId: string, count: number): Promise<ReceivedSpan[]> {
  return until(() => {
    expect(receiver.faults).toEqual([])
    const spans = receiver.spans.filter((span) => span.traceId === traceId)
    expect(spans).toHaveLength(count)
    return spans
  })
}

/** The one that came first of a trace: edge's server, edge's client, host's server. */
function inOrder(spans: readonly ReceivedSpan[]): [ReceivedSpan, ReceivedSpan, ReceivedSpan] {
  const of = (service: string, kind: number): ReceivedSpan => {
    const found = spans.find((span) => span.service === service && span.kind === kind)
    if (found === undefined) throw new Error(`no span of ${service}`)
    return found
  }
  return [of('nozzle-edge', 2), of('nozzle-edge', 3), of('nozzle-host', 2)]
}

describe('tracing', () => {
  it.each([false, true])(
    'follows a request from its caller to the host, stream %s',
    async (stream) => {
      const { traceId, traceparent } = callersTrace()
      const reply = await on.ask({ traceparent, tracestate: TRACESTATE }, { stream })
      await reply.text()
      const [server, client, host] = inOrder(await spansOf(on, traceId, 3))
      const parents = [server, client, host].map(({ parentSpanId }) => parentSpanId)
      expect(parents).toEqual([CALLER, server.spanId, client.spanId])
      const call = on.calls.at(-1)
      expect(call?.get('traceparent')).toBe(`00-${traceId}-${client.spanId}-01`)
      expect(call?.get('tracestate')).toBe(TRACESTATE)
      // A stream's span lasts as long as its stream.
      expect(server.endTimeUnixNano).toBeGreaterThanOrEqual(client.endTimeUnixNano)
      expect(server.name).toBe('POST /v1/chat/completions')
      const requestId = reply.headers.get('x-request-id')
      expect(Object.fromEntries(server.attributes)).toEqual({
        'http.request.method': 'POST',
        'http.route': '/v1/chat/completions',
        'http.response.status_code': 200,
        'nozzle.request_id': requestId,
        'nozzle.tenant_id': on.tenant.id,
      })
      const generation = {
        'gen_ai.operation.name': 'chat',
        'gen_ai.provider.name': 'nozzle',
        'gen_ai.request.model': 'support',
        'gen_ai.request.max_tokens': 5,
        'gen_ai.request.temperature': 0.5,
        'gen_ai.request.stream': stream,
        'gen_ai.response.id': requestId,
        'gen_ai.response.finish_reasons': ['length'],
        'gen_ai.usage.input_tokens': promptTokens('hello'),
        'gen_ai.usage.output_tokens': 5,
        'nozzle.adapter_source': stream ? 'slot' : expect.stringMatching(/^(store|ram)$/),
        'nozzle.attempt': 1,
        'nozzle.queue_seconds': expect.any(Number),
        'nozzle.swap_seconds': expect.any(Number),
      }
      expect(Object.fromEntries(host.attributes)).toMatchObject(generation)
      expect(client.name).toBe('chat support')
      const { hostname, port } = new URL(on.pool.hosts[0]?.host.url ?? '')
      expect(Object.fromEntries(client.attributes)).toMatchObject({
        ...generation,
        'server.address': hostname,
        'server.port': Number(port),
        'nozzle.host_id': 'hst_test',
      })
      // The same numbers in the host's log, under the same ids.
      const ids = { request_id: requestId, trace_id: traceId, tenant_id: on.tenant.id }
      await until(() => {
        const line = on.hostLogs.findLast(({ message }) => message === 'request')
        expect(line).toMatchObject({ ...ids, completion_tokens: 5, finish_reason: 'length' })
      })
      const line = on.pool.logs.findLast(({ fields }) => fields.path === '/v1/chat/completions')
      expect(line?.fields).toMatchObject(ids)
    },
  )

  it('has no name but those of the conventions and its own', async () => {
    const { traceId, traceparent } = callersTrace()
    await (await on.ask({ traceparent }, { n: 2 })).text()
    const known = new Set(Object.values(conventions))
    for (const { attributes } of await spansOf(on, traceId, 3)) {
      for (const name of attributes.keys()) {
        if (!name.startsWith('nozzle.')) expect(known).toContain(name)
      }
    }
  })

  it('begins a trace where there is none', async () => {
    await (await on.ask({ traceparent: '00-not-a-trace', tracestate: TRACESTATE })).text()
    const call = on.calls.at(-1)
    const traceId = call?.get('traceparent')?.slice(3, 35) ?? ''
    expect(traceId).toMatch(/^[0-9a-f]{32}$/)
    expect(call?.get('tracestate')).toBeNull()
    const [server] = inOrder(await spansOf(on, traceId, 3))
    expect(server.parentSpanId).toBeUndefined()
  })

  it('says why an attempt failed, and calls no fault of a client one of the server', async () => {
    // The host finds the adapter neither with itself nor in its store.
    await on.pool.deploy(on.tenant, 'lost', 'other weights')
    on.pool.store.clear()
    const failed = callersTrace()
    const { status } = await on.ask({ traceparent: failed.traceparent }, { model: 'lost' })
    expect(status).toBe(503)
    const spans = inOrder(await spansOf(on, failed.traceId, 3))
    expect(spans.map((span) => [span.status.code, span.attributes.get('error.type')])).toEqual([
      [2, 'adapter_unavailable'],
      [2, 'adapter_not_found'],
      [2, 'adapter_not_found'],
    ])
    const unknown = callersTrace()
    const refused = await on.ask({ traceparent: unknown.traceparent }, { model: 'x' })
    expect(refused.status).toBe(404)
    const [only] = await spansOf(on, unknown.traceId, 1)
    expect(only?.status.code).toBeUndefined()
    expect(only?.attributes.get('http.response.status_code')).toBe(404)
  })

  it('keeps to what the caller decided, to the sampler, and to what the collector asks for', async () => {
    const left = callersTrace('00')
    await (await choosy.ask({ traceparent: left.traceparent })).text()
    expect(choosy.calls.at(-1)?.get('traceparent')).toMatch(
      new RegExp(`^00-${left.traceId}-[0-9a-f]{16}-00$`),
    )
    await (await choosy.ask({})).text()
    const { traceId, traceparent } = callersTrace()
    await (await choosy.ask({ traceparent })).text()
    await spansOf(choosy, traceId, 3)
    expect(choosy.receiver.spans).toHaveLength(3)
    const asked = { 'x-team': 'a b', authorization: 'Basic abc' }
    for (const headers of choosy.receiver.headers) expect(headers).toMatchObject(asked)
  })

  it('is off by itself, and still passes a trace on untouched and logs it', async () => {
    const { traceId, traceparent } = callersTrace()
    await (await off.ask({ traceparent, tracestate: TRACESTATE })).text()
    await (await off.ask({})).text()
    const [first, second] = off.calls
    expect([first?.get('traceparent'), first?.get('tracestate')]).toEqual([traceparent, TRACESTATE])
    const made = second?.get('traceparent') ?? ''
    expect(made).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-02$/)
    await until(() => {
      const ids = off.hostLogs.filter(({ message }) => message === 'request')
      expect(ids.map((fields) => fields.trace_id)).toEqual([traceId, made.slice(3, 35)])
    })
    expect(off.receiver.bodies).toEqual([])
  })

  it('costs nothing but its spans when the collector is away', async () => {
    await choosy.receiver.close()
    const { traceparent } = callersTrace()
    expect((await choosy.ask({ traceparent })).status).toBe(200)
    await until(async () => {
      const text = await (await fetch(`${choosy.pool.url}/metrics`)).text()
      expect(text).toContain('nozzle_edge_spans_total{outcome="failed"} ')
    })
    const told = choosy.pool.logs.filter(({ message }) => message === 'spans are not collected')
    expect(told).toHaveLength(1)
  })
})
