/**
 * A process' spans, whole: what makes them and what sends them. Edge and host share this folder,
 * so that there is one way for Node and for workerd.
 */
import type { FinishedSpan, SpanResource } from './otlp.ts'
import { SpanExporter, type SpanOutcome } from './span-exporter.ts'
import { type Span, type TraceHeaders, Tracer } from './tracer.ts'
import type { TracingSettings } from './tracing-settings.ts'

export interface TracingOptions {
  /** null = no spans: traces are passed on. */
  readonly settings: TracingSettings | null
  readonly resource: SpanResource
  readonly fetch: typeof globalThis.fetch
  /** Unix time. */
  readonly nowMs: () => number
  readonly monotonicMs: () => number
  readonly onOutcome: (outcome: SpanOutcome, spans: number) => void
  readonly onChange: (reason: string | null) => void
}

export class Tracing {
  readonly #tracer: Tracer
  readonly #passer: Tracer
  readonly #exporter: SpanExporter | null

  constructor({ settings, resource: own, ...options }: TracingOptions) {
    const resource = { ...own, serviceName: settings?.serviceName ?? own.serviceName }
    this.#exporter = settings === null ? null : new SpanExporter({ ...options, settings, resource })
    const onSpan = (span: FinishedSpan): void => this.#exporter?.add(span)
    this.#tracer = new Tracer({ ...options, settings, onSpan })
    this.#passer = new Tracer({ ...options, settings: null, onSpan })
  }

  /**
   * Of a request; it has to be ended. `keepAlive` lets the sending outlive the request, and is
   * asked at once: when the last byte of a reply has left, a Worker listens to nobody any more.
   */
  begin(headers: TraceHeaders, keepAlive: (work: Promise<void>) => void = () => {}): Span {
    const exporter = this.#exporter
    const done = Promise.withResolvers<void>()
    const span = this.#tracer.begin(headers, done.resolve)
    if (exporter !== null && span.isRecording) {
      keepAlive(done.promise.then(() => exporter.flushSoon()))
    }
    return span
  }

  /** Of a request that is not worth one: its trace is passed on. */
  pass(headers: TraceHeaders): Span {
    return this.#passer.begin(headers)
  }

  /** Sends what waits now. Never rejects. */
  async flush(): Promise<void> {
    await this.#exporter?.flush()
  }
}
