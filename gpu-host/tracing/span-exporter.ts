/**
 * Sends finished spans to a collector, some at a time, by OTLP/HTTP in JSON. One that is away costs
 * its spans and nothing else: they are dropped and counted, never kept for later or waited for.
 */
import { type FinishedSpan, type SpanResource, toOtlpRequest } from './otlp.ts'
import type { TracingSettings } from './tracing-settings.ts'

/** `exported`; `failed`: the collector did not take them; `dropped`: too many waited. */
export type SpanOutcome = 'exported' | 'failed' | 'dropped'

export interface SpanExporterOptions {
  readonly settings: Pick<TracingSettings, 'url' | 'headers'>
  readonly resource: SpanResource
  readonly fetch: typeof globalThis.fetch
  readonly onOutcome: (outcome: SpanOutcome, spans: number) => void
  /** Told when the collector is found to be away, with the reason, and when it is back. */
  readonly onChange: (reason: string | null) => void
}

const SPANS_WAITING_MAX = 2048
const SPANS_PER_CALL_MAX = 512
/** So that spans travel together, and a Worker may still send them after its request. */
const FLUSH_MS = 500
const TIMEOUT_MS = 5000

export class SpanExporter {
  readonly #options: SpanExporterOptions
  #waiting: FinishedSpan[] = []
  #isAway = false

  constructor(options: SpanExporterOptions) {
    this.#options = options
  }

  add(span: FinishedSpan): void {
    if (this.#waiting.length < SPANS_WAITING_MAX) this.#waiting.push(span)
    else this.#options.onOutcome('dropped', 1)
  }

  /**
   * Sends what waits in a moment, with what comes until then. Each caller waits by a timer of its
   * own, since one that a Worker's request has set ends with it; the first sends for all. Never
   * rejects.
   */
  async flushSoon(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, FLUSH_MS))
    await this.flush()
  }

  /** Sends what waits now. Never rejects. */
  async flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const spans = this.#waiting.splice(0, SPANS_PER_CALL_MAX)
      const reason = await this.#send(spans)
      this.#options.onOutcome(reason === null ? 'exported' : 'failed', spans.length)
      if (this.#isAway === (reason !== null)) continue
      this.#isAway = reason !== null
      this.#options.onChange(reason)
    }
  }

  /** null = they were taken. */
  async #send(spans: readonly FinishedSpan[]): Promise<string | null> {
    const { settings, resource, fetch } = this.#options
    try {
      const response = await fetch(settings.url, {
        method: 'POST',
        headers: { ...settings.headers, 'content-type': 'application/json' },
        body: JSON.stringify(toOtlpRequest(resource, spans)),
        redirect: 'manual',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      await response.body?.cancel()
      return response.ok ? null : `the collector answered ${response.status}`
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }
}
