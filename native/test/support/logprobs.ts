/** Whole rows of log probabilities, by token id, and how far two of them lie apart. Pure. */

export function logSoftmax(logits: Float32Array | Float64Array): Float64Array {
  let top = Number.NEGATIVE_INFINITY
  for (const logit of logits) top = Math.max(top, logit)
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - top)
  const logSum = top + Math.log(sum)
  return Float64Array.from(logits, (logit) => logit - logSum)
}

/** From the engine's list of best tokens, which must name the whole vocabulary. */
export function toLogprobRow(
  top: readonly { readonly token: number; readonly logprob: number }[],
  vocabularySize: number,
): Float32Array {
  if (top.length !== vocabularySize) throw new Error(`${top.length} tokens, not the vocabulary`)
  const row = new Float32Array(vocabularySize).fill(Number.NaN)
  for (const { token, logprob } of top) row[token] = logprob
  return row
}

/**
 * Index of the first row that differs in any bit, or that only one side has; null when none does.
 */
export function firstDifference(
  actual: readonly Float32Array[],
  expected: readonly Float32Array[],
): number | null {
  for (let row = 0; row < Math.max(actual.length, expected.length); row++) {
    const [left, right] = [actual[row], expected[row]]
    if (!left || !right || Buffer.compare(toBytes(left), toBytes(right)) !== 0) return row
  }
  return null
}

function toBytes(row: Float32Array): Uint8Array {
  return new Uint8Array(row.buffer, row.byteOffset, row.byteLength)
}

/**
 * Largest difference of any token, relative to the expected row's spread; NaN when a token lacks.
 */
export function relativeError(
  actual: ArrayLike<number>,
  expected: Float64Array | Float32Array,
): number {
  let largest = 0
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (let token = 0; token < expected.length; token++) {
    const value = expected[token] ?? Number.NaN
    low = Math.min(low, value)
    high = Math.max(high, value)
    largest = Math.max(largest, Math.abs((actual[token] ?? Number.NaN) - value))
  }
  return largest / (high - low)
}
