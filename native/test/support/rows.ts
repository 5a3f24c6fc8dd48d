/** Rows of a step, as the engine takes them. */

/** Rows of one sequence from `position` on; the last one samples. */
export function rowsOf(
  sequence: number,
  tokens: readonly number[],
  { position = 0, slot = 0 }: { position?: number; slot?: number } = {},
) {
  const length = tokens.length
  return {
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(tokens, (_, index) => position + index),
    sequences: new Int32Array(length).fill(sequence),
    slots: new Int32Array(length).fill(slot),
    outputs: Uint8Array.from(tokens, (_, index) => (index === length - 1 ? 1 : 0)),
  }
}

/** One step's rows after another's. */
export function joinRows(a: ReturnType<typeof rowsOf>, b: ReturnType<typeof rowsOf>) {
  return {
    tokens: Int32Array.of(...a.tokens, ...b.tokens),
    positions: Int32Array.of(...a.positions, ...b.positions),
    sequences: Int32Array.of(...a.sequences, ...b.sequences),
    slots: Int32Array.of(...a.slots, ...b.slots),
    outputs: Uint8Array.of(...a.outputs, ...b.outputs),
  }
}
