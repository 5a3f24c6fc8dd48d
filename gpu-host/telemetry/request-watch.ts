/**
 * One request of the edge as the host tells of it: a span, and a line in the log. Ids, names, codes
 * and numbers; nothing of what was asked or answered.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '../clock.ts'
import { errorCodeOf } from '../errors.ts'
import type { Log, LogFields } from '../log.ts'
import type { EndEvent, GenerateEvent, GenerateRequest, GrantClaims } from '../protocol.ts'
import { endAttributes, requestAttributes } from '../tracing/generate-attributes.ts'
import type { Span } from '../tracing/tracer.ts'
import type { Tracing } from '../tracing/tracing.ts'

export interface RequestWatchDeps {
  readonly tracing: Tracing
  readonly clock: Clock
  readonly log: Log
}

const METHOD = 'POST'

export class RequestWatch {
  readonly #deps: RequestWatchDeps
  readonly #route: string
  readonly #span: Span
  readonly #startUs: number
  #fields: LogFields

  constructor(deps: RequestWatchDeps, claims: GrantClaims, headers: IncomingHttpHeaders) {
    this.#deps = deps
    this.#route = claims.route
    this.#startUs = deps.clock.nowUs()
    this.#span = deps.tracing.begin(traceHeadersOf(headers))
    this.#fields = {
      request_id: claims.request_id,
      trace_id: this.#span.context.traceId,
      tenant_id: claims.tenant_id,
    }
  }

  asked(request: GenerateRequest): void {
    const { attempt, model, adapter_version_id } = request
    this.#note({ attempt, model, adapter_version_id })
    if (this.#span.isRecording) this.#span.set(requestAttributes(request))
  }

  /** An event of the reply, as it is sent. */
  saw(event: GenerateEvent): void {
    if (event.type === 'accepted') this.#span.set({ 'nozzle.host_id': event.host_id })
    if (event.type === 'error') this.#fail(event.code)
    if (event.type !== 'end') return
    this.#note(endFields(event))
    if (this.#span.isRecording) this.#span.set(endAttributes(event))
  }

  /** It was refused. */
  refused(error: unknown): void {
    this.#fail(errorCodeOf(error) ?? 'internal_error')
  }

  close(): void {
    const { clock, log } = this.#deps
    this.#span.set({ 'http.request.method': METHOD, 'http.route': this.#route })
    this.#span.end(`${METHOD} ${this.#route}`)
    log('info', 'request', { ...this.#fields, ms: toMs(clock.nowUs() - this.#startUs) })
  }

  #fail(code: string): void {
    this.#note({ code })
    this.#span.set({ 'error.type': code })
  }

  #note(fields: LogFields): void {
    this.#fields = { ...this.#fields, ...fields }
  }
}

/** Node has a header that came twice as one text, or as a list where it does not know it. */
function traceHeadersOf({ traceparent, tracestate }: IncomingHttpHeaders): {
  traceparent: string | null
  tracestate: string | null
} {
  return {
    traceparent: typeof traceparent === 'string' ? traceparent : null,
    tracestate: typeof tracestate === 'string' ? tracestate : null,
  }
}

function endFields(end: EndEvent): LogFields {
  const { usage } = end
  return {
    finish_reason: end.finish_reason,
    prompt_tokens: usage.prompt_tokens,
    cached_prompt_tokens: usage.cached_prompt_tokens,
    completion_tokens: usage.completion_tokens,
    adapter_source: end.adapter_source,
    queue_ms: toMs(end.queue_us),
    swap_ms: toMs(end.swap_us),
    ttft_ms: toMs(end.ttft_us),
  }
}

function toMs(us: number): number {
  return Math.round(us / 1000)
}
