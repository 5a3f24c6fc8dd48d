/**
 * A request's spans, from `traceparent` to the exporter. With tracing off, and for requests that
 * are not sampled, the same calls pass the trace on and make nothing: a caller's trace goes through
 * untouched, and one that began here still names the request in the logs of edge and host.
 */
import type { FinishedSpan, SpanAttributes, SpanKind } from './otlp.ts'
import {
  createSpanId,
  createTraceId,
  parseTraceparent,
  type TraceContext,
  toTraceparent,
} from './trace-context.ts'
import { isSampled, type TracingSettings } from './tracing-settings.ts'

export interface TracerOptions {
  /** null = no spans. */
  readonly settings: TracingSettings | null
  readonly onSpan: (span: FinishedSpan) => void
  /** Unix time. */
  readonly nowMs: () => number
  readonly monotonicMs: () => number
}

/** The headers as they came. */
export interface TraceHeaders {
  readonly traceparent: string | null
  readonly tracestate: string | null
}

/** Longer ones are not passed on; the recommendation asks for 512. */
const TRACESTATE_CHARACTERS_MAX = 2048

export class Tracer {
  readonly #options: TracerOptions

  constructor(options: TracerOptions) {
    this.#options = options
  }

  /** The span of a request that came; `onDone` is called when it and all of its children ended. */
  begin(headers: TraceHeaders, onDone: () => void = () => {}): Span {
    const { settings } = this.#options
    const parent = parseTraceparent(headers.traceparent)
    const traceId = parent?.traceId ?? createTraceId()
    const isRecording = settings !== null && isSampled(settings, traceId, parent)
    const trace: Trace = {
      ...this.#options,
      tracestate: parent === null ? null : shortEnough(headers.tracestate),
      isRecording,
      onDone,
      startedMs: isRecording ? this.#options.nowMs() : 0,
      startedAtMs: isRecording ? this.#options.monotonicMs() : 0,
    }
    // Who takes no part in a trace passes on what came.
    if (settings === null && parent !== null) return new Span(trace, parent, null, 'server')
    const context = {
      traceId,
      spanId: createSpanId(),
      isSampled: isRecording,
      isRandom: parent?.isRandom ?? true,
    }
    return new Span(trace, context, parent?.spanId ?? null, 'server')
  }
}

interface Trace extends Pick<TracerOptions, 'onSpan' | 'monotonicMs'> {
  readonly tracestate: string | null
  readonly isRecording: boolean
  readonly onDone: () => void
  /** Its start by both clocks, so that spans of one process are in order. */
  readonly startedMs: number
  readonly startedAtMs: number
}

function nowMs({ startedMs, startedAtMs, monotonicMs }: Trace): number {
  return startedMs + (monotonicMs() - startedAtMs)
}

export class Span {
  readonly context: TraceContext
  readonly #trace: Trace
  readonly #parentSpanId: string | null
  readonly #kind: SpanKind
  readonly #startMs: number
  readonly #onEnd: () => void
  #attributes: SpanAttributes = {}
  #name = ''
  /** Children that have not ended. */
  #open = 0
  #isOver = false

  constructor(
    trace: Trace,
    context: TraceContext,
    parentSpanId: string | null,
    kind: SpanKind,
    onEnd: () => void = trace.onDone,
  ) {
    this.#trace = trace
    this.context = context
    this.#parentSpanId = parentSpanId
    this.#kind = kind
    this.#onEnd = onEnd
    this.#startMs = trace.isRecording ? nowMs(trace) : 0
  }

  get isRecording(): boolean {
    return this.#trace.isRecording
  }

  /** For a call that this span makes. */
  get headers(): Readonly<Record<string, string>> {
    const { tracestate } = this.#trace
    const traceparent = toTraceparent(this.context)
    return { traceparent, ...(tracestate !== null && { tracestate }) }
  }

  /** Does nothing where `isRecording` is false: ask first where attributes cost anything. */
  set(attributes: SpanAttributes): void {
    if (this.isRecording) this.#attributes = { ...this.#attributes, ...attributes }
  }

  /** Of a call that is made for it. The parent ends no sooner than its children. */
  child(): Span {
    if (!this.isRecording) return this
    this.#open += 1
    const context = { ...this.context, spanId: createSpanId() }
    return new Span(this.#trace, context, this.context.spanId, 'client', () => {
      this.#open -= 1
      if (this.#isOver && this.#open === 0) this.#finish()
    })
  }

  /** Only the first call counts. `error.type` among the attributes makes it one that failed. */
  end(name: string): void {
    if (!this.isRecording || this.#isOver) return
    this.#isOver = true
    this.#name = name
    if (this.#open === 0) this.#finish()
  }

  #finish(): void {
    const { context } = this
    this.#trace.onSpan({
      context,
      parentSpanId: this.#parentSpanId,
      name: this.#name,
      kind: this.#kind,
      startMs: this.#startMs,
      endMs: nowMs(this.#trace),
      attributes: this.#attributes,
      isError: this.#attributes['error.type'] !== undefined,
    })
    this.#onEnd()
  }
}

function shortEnough(tracestate: string | null): string | null {
  const length = tracestate?.length ?? 0
  return length > 0 && length <= TRACESTATE_CHARACTERS_MAX ? tracestate : null
}
