/**
 * The two-sample Kolmogorov-Smirnov test: whether two sets of measured values can be told apart, by
 * whatever in their distributions. Pure.
 */
export interface KolmogorovSmirnov {
  /** Largest distance of the two cumulative shares, 0 … 1. */
  readonly distance: number
  /** Chance of so large a distance where both come from one distribution. */
  readonly p: number
}

const TERMS_MAX = 100

/** Throws RangeError for an empty sample. Ties are taken together, as they must be. */
export function kolmogorovSmirnov(
  one: readonly number[],
  other: readonly number[],
): KolmogorovSmirnov {
  if (one.length === 0 || other.length === 0) throw new RangeError('a sample has no values')
  const a = [...one].sort((x, y) => x - y)
  const b = [...other].sort((x, y) => x - y)
  let distance = 0
  let i = 0
  let j = 0
  while (i < a.length && j < b.length) {
    const value = Math.min(a[i] ?? 0, b[j] ?? 0)
    while (i < a.length && a[i] === value) i += 1
    while (j < b.length && b[j] === value) j += 1
    distance = Math.max(distance, Math.abs(i / a.length - j / b.length))
  }
  return { distance, p: chanceOf(distance, (a.length * b.length) / (a.length + b.length)) }
}

/** Kolmogorov's distribution, with Stephens's correction for finite samples. */
function chanceOf(distance: number, size: number): number {
  const root = Math.sqrt(size)
  const scaled = (root + 0.12 + 0.11 / root) * distance
  // Below, the series does not converge, and the chance is 1 to many digits.
  if (scaled < 0.2) return 1
  let sum = 0
  for (let term = 1; term <= TERMS_MAX; term += 1) {
    const sign = term % 2 === 1 ? 1 : -1
    sum += sign * Math.exp(-2 * term * term * scaled * scaled)
  }
  return Math.min(1, Math.max(0, 2 * sum))
}
