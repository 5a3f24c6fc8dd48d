/**
 * What a step tells: metrics, the measured cost of a row that prefill is fitted to, and what the
 * queue reckons with.
 */
import { CONTENDED_US_MIN } from '../telemetry/fairness-window.ts'
import type { HostMetrics } from '../telemetry/metrics.ts'
import type { Choice } from './choice.ts'
import type { LiveRequest } from './live-request.ts'
import type { SequenceRows } from './step-batch.ts'
import { StepCost } from './step-cost.ts'

/** Below it a step's fixed cost hides the cost of its rows. */
const ROW_COST_ROWS_MIN = 16
const ROW_COST_WEIGHT = 0.2
/** What the host did before a step counts as its part up to this; beyond it the host was idle. */
const PAUSE_US_MAX = 20_000

export class StepObserver {
  readonly #metrics: HostMetrics
  readonly cost = new StepCost()
  #rowUs: number | null = null
  #lastEndUs = Number.NEGATIVE_INFINITY

  constructor(metrics: HostMetrics) {
    this.#metrics = metrics
  }

  /** Microseconds of one row in a large step, a moving mean; null = not measured yet. */
  get rowUs(): number | null {
    return this.#rowUs
  }

  /** `at`: from the call of the engine to its answer, before any of it was applied. */
  step(
    planned: readonly SequenceRows[],
    engineUs: number,
    at: { readonly startUs: number; readonly endUs: number },
  ): void {
    const rows = planned.reduce((sum, { rows: count }) => sum + count, 0)
    const slots = new Set(planned.map(({ sequence }) => sequence.slot).filter((slot) => slot !== 0))
    this.#metrics.stepSeconds.observe(engineUs / 1e6)
    this.#metrics.stepRows.observe(rows)
    this.#metrics.stepDistinctSlots.observe(slots.size)
    const sinceUs = Math.max(this.#lastEndUs, at.startUs - PAUSE_US_MAX)
    this.#lastEndUs = at.endUs
    const decodes = planned.filter(({ sequence }) => sequence.isDecoding).length
    this.cost.observe({ rows, decodes, engineUs, wallUs: at.endUs - sinceUs })
    if (rows < ROW_COST_ROWS_MIN) return
    const rowUs = engineUs / rows
    this.#rowUs =
      this.#rowUs === null ? rowUs : this.#rowUs + ROW_COST_WEIGHT * (rowUs - this.#rowUs)
  }

  /** The engine rejected a step after `us`. */
  failedStep(us: number): void {
    this.#metrics.stepFailures.inc()
    this.#metrics.unattributedSeconds.inc({ kind: 'failed_step' }, us / 1e6)
  }

  /** The request owes nothing, so no usage event says what it took. */
  owesNothing({ totals, swapUs }: Pick<LiveRequest, 'totals' | 'swapUs'>): void {
    this.#metrics.unattributedSeconds.inc({ kind: 'step' }, totals.gpuUs / 1e6)
    this.swapUnused(swapUs)
  }

  /** The sequence's adapter is in its slot; `us` of the load that it carries, 0 = of none. */
  swapped({ owner }: Choice, us: number): void {
    if (us > 0) this.#metrics.swapSeconds.observe({ source: owner.source }, us / 1e6)
  }

  /** A load that was made for a request which takes no slot any more, or owes nothing. */
  swapUnused(us: number): void {
    this.#metrics.unattributedSeconds.inc({ kind: 'swap' }, us / 1e6)
  }

  /** Its wait for a first row is over. */
  begun({ tenantId, weight, choice, timing }: Choice, nowUs: number): void {
    const queueUs = timing.markRow(nowUs)
    if (queueUs === null) return
    if (queueUs >= CONTENDED_US_MIN) this.#metrics.fairness.waited({ tenantId, weight }, nowUs)
    if (choice === 0) this.#metrics.queueSeconds.observe(queueUs / 1e6)
  }

  /** Of its rows that ran, `prompt` read prompt tokens and `again` tokens that had run before. */
  rows(sequence: Choice, ran: { prompt: number; again: number }, nowUs: number): void {
    this.begun(sequence, nowUs)
    this.#metrics.fairness.served(sequence, ran.prompt * this.cost.promptCost, nowUs)
    this.#metrics.tokens.inc({ kind: 'prompt' }, ran.prompt)
    this.#metrics.tokens.inc({ kind: 'recomputed' }, ran.again)
  }

  token(sequence: Choice, nowUs: number): void {
    const gapUs = sequence.timing.markToken(nowUs)
    this.#metrics.tokens.inc({ kind: 'completion' })
    this.#metrics.fairness.served(sequence, 1, nowUs)
    if (gapUs !== null) {
      this.#metrics.itlSeconds.observe(gapUs / 1e6)
      return
    }
    // A request's first token is that of its first choice: the others may wait for a sequence.
    if (sequence.choice > 0) return
    const { ttftUs } = sequence.timing
    const { source } = sequence.owner
    if (ttftUs !== null) this.#metrics.ttftSeconds.observe({ source }, ttftUs / 1e6)
  }
}
