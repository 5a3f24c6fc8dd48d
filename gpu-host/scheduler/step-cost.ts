/**
 * What a step costs, learnt from steps that ran: a fixed part and a part per row, fitted by least
 * squares over the last few hundred. Says what a prompt token costs in tokens drawn (prompts fill
 * steps, drawn tokens also share out the fixed part), and how long a step takes. Pure.
 */

/** Of old steps in the fit, per step: half is forgotten in about 140 steps. */
const KEPT = 0.995
const PACE_WEIGHT = 0.05
/** Below it nothing is believed. */
const STEPS_MIN = 20
/** While nothing is known; about what two cores and the default base measure. */
const PROMPT_COST_ASSUMED = 0.5
const PROMPT_COST_MIN = 1 / 32

export class StepCost {
  #steps = 0
  #weight = 0
  #rows = 0
  #us = 0
  #rowsSquared = 0
  #rowsUs = 0
  #decodes = 0
  #paceUs = 0

  /**
   * A step of `rows` rows, `decodes` of which drew on; `engineUs` of the engine alone, `wallUs`
   * from its beginning to its end with all that the host did around it.
   */
  observe(step: {
    readonly rows: number
    readonly decodes: number
    readonly engineUs: number
    readonly wallUs: number
  }): void {
    const { rows, decodes, engineUs, wallUs } = step
    this.#steps += 1
    this.#weight = KEPT * this.#weight + 1
    this.#rows = KEPT * this.#rows + rows
    this.#us = KEPT * this.#us + engineUs
    this.#rowsSquared = KEPT * this.#rowsSquared + rows * rows
    this.#rowsUs = KEPT * this.#rowsUs + rows * engineUs
    this.#decodes = KEPT * this.#decodes + decodes
    // The first steps count alike, those that follow by a moving mean.
    this.#paceUs += Math.max(1 / this.#steps, PACE_WEIGHT) * (wallUs - this.#paceUs)
  }

  /** Milliseconds from step to step, as of late; null = not measured yet. */
  get stepMs(): number | null {
    return this.#steps < STEPS_MIN ? null : this.#paceUs / 1000
  }

  /** What a prompt token costs, in tokens drawn: 0 < cost ≤ 1. */
  get promptCost(): number {
    const spread = this.#weight * this.#rowsSquared - this.#rows * this.#rows
    if (this.#steps < STEPS_MIN || spread <= 0 || this.#decodes === 0) return PROMPT_COST_ASSUMED
    const rowUs = (this.#weight * this.#rowsUs - this.#rows * this.#us) / spread
    const fixedUs = (this.#us - rowUs * this.#rows) / this.#weight
    if (rowUs <= 0) return PROMPT_COST_MIN
    if (fixedUs <= 0) return 1
    const drawnUs = rowUs + (fixedUs * this.#weight) / this.#decodes
    return Math.max(PROMPT_COST_MIN, rowUs / drawnUs)
  }
}
