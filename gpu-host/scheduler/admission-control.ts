/**
 * Whether a request is let into the queue, and how long it may stay. One that would wait longer
 * than it can use (its deadline) or than the host lets anybody wait is refused at once, with a
 * hint when to come back: work that ends as a time-out is work that somebody else could have had.
 * How long it would wait is reckoned for its own tenant, in the queue's fair order, from what
 * running and waiting requests still have to do, and held against what waits turn out to be
 * (wait-guard.ts).
 *
 * Nothing is refused for its wait while no step was measured.
 */
import { HostError } from '../errors.ts'
import type { GenerateRequest } from '../protocol.ts'
import type { Admission } from './admission.ts'
import type { Choice } from './choice.ts'
import { LengthEstimate } from './length-estimate.ts'
import type { LiveRequest } from './live-request.ts'
import type { SchedulerLimits } from './scheduler-options.ts'
import { forecastSteps } from './wait-forecast.ts'
import { WaitGuard } from './wait-guard.ts'
import { WaitTarget } from './wait-target.ts'

export interface ControlOptions<C extends Choice> {
  readonly queue: Admission<C>
  readonly limits: Pick<SchedulerLimits, 'waitTargetMs' | 'queueWaitMaxMs'>
  readonly sequenceCount: number
  /** Choices that run. */
  readonly running: () => Iterable<C>
  /** Places that are free are of no use now: those that run wait for memory. */
  readonly isShort: () => boolean
  /** Milliseconds from step to step of late; null = not measured yet. */
  readonly stepMs: () => number | null
  /** Steps that a choice will still take. */
  readonly stepsLeft: (choice: C) => number
  /** Monotonic. */
  readonly nowMs: () => number
}

type Asking = Pick<GenerateRequest, 'tenant_id' | 'tenant_weight' | 'deadline_ms' | 'n'>

const RETRY_MS_MIN = 500
const RETRY_MS_MAX = 30_000
const SERVICE_WEIGHT = 0.05

export class AdmissionControl<C extends Choice> {
  readonly #options: ControlOptions<C>
  readonly #lengths = new LengthEstimate()
  readonly #guard = new WaitGuard()
  readonly #target: WaitTarget
  /** When those that run began, microseconds. */
  readonly #startedUs = new Map<C, number>()
  #serviceMs: number | null = null

  constructor(options: ControlOptions<C>) {
    this.#options = options
    this.#target = new WaitTarget(options.sequenceCount)
  }

  /**
   * How long a request of this tenant that came now would wait for its start, milliseconds; 0 while
   * nothing is measured.
   */
  waitMs(tenantId: string, weight: number): number {
    const { queue, sequenceCount, running, isShort, stepsLeft } = this.#options
    const held = [...running()]
    const steps = forecastSteps({
      running: held.map(stepsLeft),
      ahead: queue.ahead(tenantId, weight).map(stepsLeft),
      sequenceCount: isShort() ? held.length : sequenceCount,
      reserved: queue.reservedFrom(tenantId, weight, sequenceCount),
    })
    return Math.round(steps * this.#stepMs)
  }

  /** Throws `queue_full` with a retry hint, before the request has cost anything. */
  assertAdmits({ tenant_id: tenantId, tenant_weight: weight, deadline_ms, n }: Asking): void {
    const waitMs = this.waitMs(tenantId, weight)
    this.#options.queue.assertRoom(tenantId, n, toRetryMs(waitMs))
    const firstTokenMs = waitMs + this.#stepMs
    if (deadline_ms !== null && firstTokenMs > deadline_ms) {
      const message =
        `the first token would take ${Math.round(firstTokenMs)} ms, ` +
        `and is of use for ${deadline_ms} ms`
      throw new HostError('queue_full', message, {
        retryAfterMs: toRetryMs(firstTokenMs - deadline_ms),
      })
    }
    const nowMs = this.#options.nowMs()
    this.#target.observe(tenantId, { waitMs, serviceMs: this.#serviceMs, nowMs })
    const allowedMs = this.#allowedMs(tenantId, nowMs) * this.#guard.factorOf(tenantId)
    if (waitMs <= allowedMs) return
    throw new HostError('queue_full', `the host has ${waitMs} ms of work before this request`, {
      retryAfterMs: toRetryMs(waitMs - allowedMs),
    })
  }

  /** Tokens that one which may draw `tokensMax` will draw, as far as its tenant's past says. */
  expectedTokens(tenantId: string, tokensMax: number): number {
    return this.#lengths.of(tenantId, tokensMax)
  }

  /** Its wait is over: it runs. */
  started(choice: C, nowUs: number): void {
    this.#startedUs.set(choice, nowUs)
    this.#guard.observe(choice.tenantId, {
      waitMs: (nowUs - choice.timing.acceptedUs) / 1000,
      allowedMs: this.#allowedMs(choice.tenantId, choice.timing.acceptedUs / 1000),
      nowMs: nowUs / 1000,
    })
  }

  /** One that ran has ended, by itself or before its time. */
  ended(choice: C, nowUs: number): void {
    const startedUs = this.#startedUs.get(choice)
    this.#startedUs.delete(choice)
    if (choice.finish === null || startedUs === undefined) return
    this.#lengths.observe(choice.tenantId, choice.drawnTokens)
    const serviceMs = (nowUs - startedUs) / 1000
    this.#serviceMs ??= serviceMs
    this.#serviceMs += SERVICE_WEIGHT * (serviceMs - this.#serviceMs)
  }

  /** Why a request must not go on waiting for its first token; null = it may. */
  expiry(owner: LiveRequest<C>, nowUs: number): HostError | null {
    if (owner.hasDrawn) return null
    const waitedMs = (nowUs - owner.acceptedUs) / 1000
    const { deadline_ms } = owner.request
    if (deadline_ms !== null && waitedMs > deadline_ms) {
      return new HostError('deadline_exceeded', 'no token came within the deadline of the request')
    }
    // Once begun, its choices wait for their turn as long as it takes.
    if (owner.hasStarted || waitedMs <= this.#options.limits.queueWaitMaxMs) return null
    const { tenant_id } = owner.request
    this.#guard.observe(tenant_id, {
      waitMs: waitedMs,
      allowedMs: this.#allowedMs(tenant_id, owner.acceptedUs / 1000),
      nowMs: nowUs / 1000,
    })
    return new HostError('deadline_exceeded', 'waited too long for a place on the host')
  }

  /** Up to which wait a request that came at `atMs` is let in: as set, or as WaitTarget says. */
  #allowedMs(tenantId: string, atMs: number): number {
    const { waitTargetMs, queueWaitMaxMs } = this.#options.limits
    const targetMs = waitTargetMs ?? this.#target.allowedMs(tenantId, this.#serviceMs, atMs)
    return Math.min(queueWaitMaxMs, targetMs)
  }

  get #stepMs(): number {
    return this.#options.stepMs() ?? 0
  }
}

function toRetryMs(waitMs: number): number {
  return Math.round(Math.max(RETRY_MS_MIN, Math.min(RETRY_MS_MAX, waitMs)))
}
