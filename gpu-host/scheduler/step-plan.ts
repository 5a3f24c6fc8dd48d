/**
 * Pure: which rows the next step runs. Decode rows come first, so a running stream is never stalled
 * by a prompt; what is left of the step, up to a prefill budget, is shared evenly among the prompts
 * that wait, so a short prompt does not stand behind a long one. Where there is not room for all,
 * those that were served longest ago come first.
 *
 * Sequences of a tenant that runs beyond its share yield: steps are kept short while it is their
 * prompts that fill them, since whoever comes next waits for the step that runs; others' prompts
 * are read before theirs; and their decodes may sit out a step that reads others' prompts.
 */
import type { StepParts } from './step-cost.ts'

export interface PlannableSequence {
  readonly sequence: number
  /** Prompt rows not yet run; 0 = decoding. */
  readonly promptRemaining: number
  /** Number of the step that last ran rows of it; −1 = none. */
  readonly lastStep: number
  readonly isYielding: boolean
}

export interface StepBudget {
  /** Rows of one step. */
  readonly rowsMax: number
  /** Prompt rows of one step. */
  readonly prefillRowsMax: number
  /** What a step takes; null = not known. */
  readonly parts: StepParts | null
}

export interface PlannedRows {
  readonly sequence: number
  readonly rows: number
}

/** Part of a step that decodes may not take while prompts wait, so that prompts always advance. */
const PREFILL_RESERVE = 1 / 8
/**
 * How long a step may be for prompts that yield, as a multiple of its fixed part: at four, three
 * quarters of its time go into rows, so short steps cost little of what the host can do.
 */
const YIELDING_STEP = 4
/** However short that makes a step. */
const YIELDING_ROWS_MIN = 16

export function planStep(
  sequences: readonly PlannableSequence[],
  budget: StepBudget,
): PlannedRows[] {
  const byTurn = [...sequences].sort((a, b) => a.lastStep - b.lastStep || a.sequence - b.sequence)
  const prefilling = byTurn.filter((sequence) => sequence.promptRemaining > 0)
  const paused = pickPaused(byTurn, budget.parts)
  const decoding = byTurn.filter(
    (sequence) => sequence.promptRemaining === 0 && !paused.has(sequence),
  )
  const reserved = prefilling.length === 0 ? 0 : Math.ceil(budget.rowsMax * PREFILL_RESERVE)
  const decodes = decoding.slice(0, Math.max(1, budget.rowsMax - reserved))
  const plan = decodes.map(({ sequence }) => ({ sequence, rows: 1 }))
  const rowsMax = Math.min(budget.prefillRowsMax, budget.rowsMax - decodes.length)
  const first = sharePrefill(
    prefilling.filter(({ isYielding }) => !isYielding),
    rowsMax,
  )
  const taken = first.reduce((sum, { rows }) => sum + rows, 0)
  const yielding = sharePrefill(
    prefilling.filter(({ isYielding }) => isYielding),
    Math.min(rowsMax, yieldingRows(budget.parts, decodes.length)) - taken,
  )
  return [...plan, ...first, ...yielding]
}

/**
 * Decodes that yield, where a step without them is over sooner by more than the step costs that
 * they then need: where a step costs as much with them as without, nobody pauses. None pauses
 * twice in a row.
 */
function pickPaused(
  byTurn: readonly PlannableSequence[],
  parts: StepParts | null,
): ReadonlySet<PlannableSequence> {
  const isWaitedFor = byTurn.some(
    ({ promptRemaining, isYielding }) => promptRemaining > 0 && !isYielding,
  )
  if (parts === null || !isWaitedFor) return new Set()
  const lastStep = byTurn.at(-1)?.lastStep
  const paused = byTurn.filter(
    (sequence) =>
      sequence.isYielding && sequence.promptRemaining === 0 && sequence.lastStep === lastStep,
  )
  return new Set(paused.length * parts.rowUs > parts.fixedUs ? paused : [])
}

/** Prompt rows that those who yield may have in a step with so many decodes. */
function yieldingRows(parts: StepParts | null, decodes: number): number {
  if (parts === null || parts.rowUs <= 0) return Number.POSITIVE_INFINITY
  const rows = ((YIELDING_STEP - 1) * parts.fixedUs) / parts.rowUs
  return Math.max(YIELDING_ROWS_MIN, Math.floor(rows) - decodes)
}

function sharePrefill(prefilling: readonly PlannableSequence[], rowsMax: number): PlannedRows[] {
  if (rowsMax <= 0) return []
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
