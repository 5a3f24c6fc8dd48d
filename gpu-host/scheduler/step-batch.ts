/** Planned rows → the engine's parallel arrays. Pure. */
import type { StepBatch } from '../engine.ts'
import type { Sequence } from './sequence.ts'

export interface SequenceRows {
  readonly sequence: Sequence
  readonly rows: number
}

/** The last row of a prompt and every decode row ask for a token. */
export function toStepBatch(planned: readonly SequenceRows[]): StepBatch {
  const count = planned.reduce((sum, { rows }) => sum + rows, 0)
  const batch = {
    tokens: new Int32Array(count),
    positions: new Int32Array(count),
    sequences: new Int32Array(count),
    slots: new Int32Array(count),
    outputs: new Uint8Array(count),
  }
  let row = 0
  for (const { sequence, rows } of planned) {
    const isLast = sequence.rowsDue <= rows
    for (let offset = 0; offset < rows; offset++, row++) {
      const position = sequence.filledCells + offset
      batch.tokens[row] = sequence.tokenAt(position)
      batch.positions[row] = position
      batch.sequences[row] = sequence.engineSequence
      batch.slots[row] = sequence.slot
      batch.outputs[row] = isLast && offset === rows - 1 ? 1 : 0
    }
  }
  return batch
}
