/**
 * Whether two samples may be of one distribution: the two-sample Kolmogorov-Smirnov test. What an
 * attacker with a clock can tell apart, it tells apart.
 */

/** Probability of a distance as large as that of these samples, if they are of one distribution. */
export function ksProbability(a: readonly number[], b: readonly number[]): number {
  const distance = ksDistance(a, b)
  const effective = Math.sqrt((a.length * b.length) / (a.length + b.length))
  const lambda = (effective + 0.12 + 0.11 / effective) * distance
  let sum = 0
  for (let k = 1; k <= 100; k++) {
    const term = 2 * (-1) ** (k - 1) * Math.exp(-2 * k * k * lambda * lambda)
    sum += term
    if (Math.abs(term) < 1e-12) return Math.min(1, Math.max(0, sum))
  }
  // The series does not settle where the samples are hardly apart.
  return 1
}

/** The largest distance of the two distribution functions. */
export function ksDistance(a: readonly number[], b: readonly number[]): number {
  const [left, right] = [a.toSorted((x, y) => x - y), b.toSorted((x, y) => x - y)]
  let [i, j, distance] = [0, 0, 0]
  while (i < left.length && j < right.length) {
    const value = Math.min(left[i] ?? 0, right[j] ?? 0)
    while (i < left.length && (left[i] ?? 0) <= value) i += 1
    while (j < right.length && (right[j] ?? 0) <= value) j += 1
    distance = Math.max(distance, Math.abs(i / left.length - j / right.length))
  }
  return distance
}
