/** What the scheduler is built from, and its bounds. */
import type { Clock } from '../clock.ts'
import type { Engine } from '../engine.ts'
import type { Journal } from '../journal/journal.ts'
import type { Log } from '../log.ts'
import type { HostMetrics } from '../telemetry/metrics.ts'
import type { RenderChat } from '../text/chat-template.ts'
import type { AdapterPort } from './adapter-port.ts'
import type { AdmissionLimits } from './admission.ts'

export interface SchedulerLimits extends AdmissionLimits {
  /** Forecast wait up to which requests are let in; null = as wait-target.ts reckons. */
  readonly waitTargetMs: number | null
  /** Longest wait before the first row, whatever was forecast. */
  readonly queueWaitMaxMs: number
  /** Longest wait for a slot before a pinned adapter is drained. */
  readonly slotWaitMaxMs: number
  /** Longest time that a consumer may leave its full buffer unread. */
  readonly consumerStallMaxMs: number
  readonly eventsBufferedMax: number
  /** Of a request, all of its choices together. */
  readonly eventBytesBufferedMax: number
  readonly prefillRowsMin: number
  readonly prefillRowsMax: number
  /** Length of a step that prefill is fitted to. */
  readonly stepTargetUs: number
}

/** What a host gives to whatever runs its requests. */
export interface RunnerParts {
  readonly adapters: AdapterPort
  readonly journal: Journal
  readonly metrics: HostMetrics
  readonly clock: Clock
  readonly log: Log
  readonly limits: SchedulerLimits
  readonly hostId: string
  /** Draws a seed for requests that bring none. */
  readonly randomSeed: () => number
}

export interface SchedulerOptions extends RunnerParts {
  readonly engine: Engine
  readonly renderChat: RenderChat
}
