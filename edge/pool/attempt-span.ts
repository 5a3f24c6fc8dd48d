/** The span of one attempt at a request: what was asked of which host, and what came of it. */
import type { EndEvent, GenerateRequest } from '#protocol'
import { endAttributes, generateSpanName, requestAttributes } from '#tracing/generate-attributes.ts'
import type { SpanAttributes } from '#tracing/otlp.ts'
import type { Span } from '#tracing/tracer.ts'
import type { HostState } from './pick-host.ts'

/** Neither end nor failure: whoever waited has left. */
const LEFT = 'request_aborted'

export class AttemptSpan {
  readonly #span: Span
  readonly #name: string
  #outcome: SpanAttributes = { 'error.type': LEFT }

  constructor(parent: Span, host: Pick<HostState, 'hostId' | 'url'>, request: GenerateRequest) {
    this.#span = parent.child()
    this.#name = generateSpanName(request)
    if (!this.#span.isRecording) return
    this.#span.set({ ...requestAttributes(request), 'nozzle.host_id': host.hostId })
    this.#span.set(addressOf(host.url))
  }

  /** For the call to the host. */
  get headers(): Readonly<Record<string, string>> {
    return this.#span.headers
  }

  /** The first event came after so long. */
  first(ms: number): void {
    this.#span.set({ 'gen_ai.response.time_to_first_chunk': ms / 1000 })
  }

  ended(end: EndEvent): void {
    this.#outcome = endAttributes(end)
    this.close()
  }

  /** `code`: the host's own. */
  failed(code: string): void {
    this.#outcome = { 'error.type': code }
  }

  /** Idempotent. */
  close(): void {
    this.#span.set(this.#outcome)
    this.#span.end(this.#name)
  }
}

const PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }

function addressOf(url: string): SpanAttributes {
  const { hostname, port, protocol } = new URL(url)
  return {
    'server.address': hostname,
    'server.port': port === '' ? PORTS[protocol] : Number(port),
  }
}
