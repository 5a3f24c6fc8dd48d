/**
 * Pure: which rows the next step runs. Decode rows come first, so a running stream is never stalled
 * by a prompt; what is left of the step, up to a prefill budget, is shared evenly among the prompts
 * that wait, so a short prompt does not stand behind a long one. Where there is not room for all,
 * those that were served longest ago come first.
 */
export interface PlannableSequence {
  readonly sequence: number
  /** Prompt rows not yet run; 0 = decoding. */
  readonly promptRemaining: number
  /** Number of the step that last ran rows of it; −1 = none. */
  readonly lastStep: number
}

export interface StepBudget {
  /** Rows of one step. */
  readonly rowsMax: number
  /** Prompt rows of one step. */
  readonly prefillRowsMax: number
}

export interface PlannedRows {
  readonly sequence: number
  readonly rows: number
}

/** Part of a step that decodes may not take while prompts wait, so that prompts always advance. */
const PREFILL_RESERVE = 1 / 8

export function planStep(
  sequences: readonly PlannableSequence[],
  budget: StepBudget,
): PlannedRows[] {
  const byTurn = [...sequences].sort((a, b) => a.lastStep - b.lastStep || a.sequence - b.sequence)
  const decoding = byTurn.filter((sequence) => sequence.promptRemaining === 0)
  const prefilling = byTurn.filter((sequence) => sequence.promptRemaining > 0)
  const reserved = prefilling.length === 0 ? 0 : Math.ceil(budget.rowsMax * PREFILL_RESERVE)
  const decodes = decoding.slice(0, Math.max(1, budget.rowsMax - reserved))
  const plan = decodes.map(({ sequence }) => ({ sequence, rows: 1 }))
  const prefillRows = Math.min(budget.prefillRowsMax, budget.rowsMax - decodes.length)
  return plan.concat(sharePrefill(prefilling, prefillRows))
}

function sharePrefill(prefilling: readonly PlannableSequence[], rowsMax: number): PlannedRows[] {
  const served = prefilling.slice(0, rowsMax)
  served.sort((a, b) => a.promptRemaining - b.promptRemaining)
  let rowsLeft = rowsMax
  return served.map(({ sequence, promptRemaining }, i) => {
    const rows = Math.min(promptRemaining, Math.floor(rowsLeft / (served.length - i)))
    rowsLeft -= rows
    return { sequence, rows }
  })
}

/**
 * Prompt rows that keep a step near `stepTargetUs`, from the measured cost of a row; the bounds
 * hold while nothing is measured yet or the measure is off.
 */
export function prefillBudget(
  rowUs: number | null,
  stepTargetUs: number,
  bounds: { readonly min: number; readonly max: number },
): number {
  if (rowUs === null || rowUs <= 0) return bounds.max
  return Math.max(bounds.min, Math.min(bounds.max, Math.floor(stepTargetUs / rowUs)))
}

/** A step's microseconds shared out to its row counts: integers whose sum is exactly `engineUs`. */
export function shareStepTime(engineUs: number, rowCounts: readonly number[]): number[] {
  const total = rowCounts.reduce((sum, rows) => sum + rows, 0)
  let rowsBefore = 0
  return rowCounts.map((rows) => {
    const before = Math.floor((engineUs * rowsBefore) / total)
    rowsBefore += rows
    return Math.floor((engineUs * rowsBefore) / total) - before
  })
}
