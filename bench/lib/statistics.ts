/** Order statistics of measured values. Pure. */

/** Value below which the share `fraction` (0 … 1) of the values lies; nearest rank. */
export function percentile(values: readonly number[], fraction: number): number {
  if (values.length === 0) throw new RangeError('a percentile needs at least one value')
  const sorted = [...values].sort((a, b) => a - b)
  const rank = Math.min(sorted.length, Math.max(1, Math.ceil(fraction * sorted.length)))
  return sorted[rank - 1] ?? Number.NaN
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5)
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Jain's index of how even shares are: 1 = all alike, 1 ÷ count = one has everything. */
export function jain(shares: readonly number[]): number {
  const squares = shares.reduce((sum, share) => sum + share * share, 0)
  return (mean(shares) * mean(shares) * shares.length) / squares
}

/** Rounded to `digits` significant digits, for reports. */
export function significant(value: number, digits = 4): number {
  return Number(value.toPrecision(digits))
}
