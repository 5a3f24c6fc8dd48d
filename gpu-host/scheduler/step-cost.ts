/**
 * What a step costs, learnt from steps that ran: a fixed part and a part per row, fitted by least
 * squares over the last few hundred. Says what a prompt token costs in tokens drawn (prompts fill
 * steps, drawn tokens also share out the fixed part), and how long a step takes. Pure.
 */

export interface StepParts {
  /** Microseconds of any step, however few its rows. */
  readonly fixedUs: number
  /** Microseconds that a row adds. */
  readonly rowUs: number
}

/** Of old steps in the fit, per step: half is forgotten in about 140 steps. */
const KEPT = 0.995
const PACE_WEIGHT = 0.05
/** Below it nothing is believed. */
const STEPS_MIN = 20
/** Standard deviation of the rows in the fit, of their mean, below which chance draws the line. */
const SPREAD_MIN = 0.2
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
  #parts: StepParts | null = null

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
    this.#fit()
  }

  /** Milliseconds from step to step, as of late; null = not measured yet. */
  get stepMs(): number | null {
    return this.#steps < STEPS_MIN ? null : this.#paceUs / 1000
  }

  /** null = not known yet: too few steps, or all of them alike. */
  get parts(): StepParts | null {
    return this.#parts
  }

  /** What a prompt token costs, in tokens drawn: 0 < cost ≤ 1. */
  get promptCost(): number {
    if (this.#parts === null || this.#decodes === 0) return PROMPT_COST_ASSUMED
    const { rowUs, fixedUs } = this.#parts
    if (rowUs <= 0) return PROMPT_COST_MIN
    if (fixedUs <= 0) return 1
    const drawnUs = rowUs + (fixedUs * this.#weight) / this.#decodes
    return Math.max(PROMPT_COST_MIN, rowUs / drawnUs)
  }

  /** Steps that are all alike say nothing of a row's part: then what was known stays. */
  #fit(): void {
    const meanRows = this.#rows / this.#weight
    const variance = this.#rowsSquared / this.#weight - meanRows * meanRows
    if (this.#steps < STEPS_MIN || variance < (SPREAD_MIN * meanRows) ** 2) return
    const covariance = this.#rowsUs / this.#weight - (meanRows * this.#us) / this.#weight
    const rowUs = covariance / variance
    this.#parts = { rowUs, fixedUs: this.#us / this.#weight - rowUs * meanRows }
  }
}
