/**
 * A collector of spans: takes OTLP/HTTP requests in JSON and holds each to the format's own rules
 * (opentelemetry-proto, trace/v1, in JSON). What does not keep them is refused, as by a real one.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { z } from 'zod'

const scalar = [
  z.strictObject({ stringValue: z.string() }).transform(({ stringValue }) => stringValue),
  z.strictObject({ boolValue: z.boolean() }).transform(({ boolValue }) => boolValue),
  z
    .strictObject({ intValue: z.string().regex(/^-?\d+$/) })
    .transform(({ intValue }) => Number(intValue)),
  z.strictObject({ doubleValue: z.number() }).transform(({ doubleValue }) => doubleValue),
] as const
const list = z
  .strictObject({ arrayValue: z.strictObject({ values: z.array(z.union(scalar)) }) })
  .transform(({ arrayValue }) => arrayValue.values)
const attributes = z
  .array(z.strictObject({ key: z.string().min(1), value: z.union([...scalar, list]) }))
  .transform((pairs) => new Map(pairs.map(({ key, value }) => [key, value])))

const nanoseconds = z
  .string()
  .regex(/^\d{19}$/)
  .transform(BigInt)
const spanId = z.string().regex(/^[0-9a-f]{16}$/)
const span = z
  .strictObject({
    traceId: z.string().regex(/^[0-9a-f]{32}$/),
    spanId,
    parentSpanId: spanId.optional(),
    name: z.string().min(1),
    kind: z.union([z.literal(2), z.literal(3)]),
    startTimeUnixNano: nanoseconds,
    endTimeUnixNano: nanoseconds,
    attributes,
    status: z.strictObject({ code: z.literal(2).optional() }),
  })
  .refine(({ startTimeUnixNano: from, endTimeUnixNano: to }) => from <= to)
const exportRequest = z.strictObject({
  resourceSpans: z.array(
    z.strictObject({
      resource: z.strictObject({ attributes }),
      scopeSpans: z.array(
        z.strictObject({
          scope: z.strictObject({ name: z.string(), version: z.string() }),
          spans: z.array(span).min(1),
        }),
      ),
    }),
  ),
})

export type ReceivedSpan = z.infer<typeof span> & { readonly service: unknown }

export interface OtlpReceiver {
  readonly url: string
  readonly spans: readonly ReceivedSpan[]
  /** As they came. */
  readonly bodies: readonly string[]
  readonly headers: readonly Readonly<Record<string, string | string[] | undefined>>[]
  /** Of what was refused. */
  readonly faults: readonly string[]
  close(): Promise<void>
}

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const bodies: string[] = []
  const headers: OtlpReceiver['headers'][number][] = []
  const faults: string[] = []
  const server = createServer(async (request, response) => {
    const body = await text(request)
    bodies.push(body)
    headers.push(request.headers)
    const isRightPlace = request.method === 'POST' && request.url === '/v1/traces'
    const parsed = exportRequest.safeParse(JSON.parse(body))
    if (!parsed.success || !isRightPlace) faults.push(String(parsed.error ?? request.url))
    else
      for (const one of parsed.data.resourceSpans) {
        const service = one.resource.attributes.get('service.name')
        spans.push(
          ...one.scopeSpans.flatMap((scope) => scope.spans).map((made) => ({ ...made, service })),
        )
      }
    response.writeHead(parsed.success ? 200 : 400, { 'content-type': 'application/json' }).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    ...{ spans, bodies, headers, faults },
    async close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
