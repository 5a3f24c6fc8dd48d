/** What machine time and stored bytes cost: integers in, integers out. Pure. */

const US_PER_HOUR = 3_600_000_000n
const BYTES_PER_GIB = 2n ** 30n
/** Hours of the month that storage is priced by: 365 days ÷ 12. */
const HOURS_PER_MONTH = 730n

/** Pico-USD of `us` microseconds of one machine, rounded half up. */
export function costOfTime(us: bigint, pusdPerHour: bigint): bigint {
  return divideRounded(us * pusdPerHour, US_PER_HOUR)
}

/** Pico-USD of `bytes` kept for `us` microseconds, rounded half up. */
export function costOfStorage(bytes: bigint, us: bigint, pusdPerGibMonth: bigint): bigint {
  return divideRounded(bytes * us * pusdPerGibMonth, BYTES_PER_GIB * HOURS_PER_MONTH * US_PER_HOUR)
}

/** `amount` in shares by weight, whose sum is exactly `amount`; equal ones where no weight is > 0. */
export function splitAmount(amount: bigint, weights: readonly bigint[]): bigint[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0n)
  if (total === 0n && weights.length > 0) {
    return splitAmount(
      amount,
      weights.map(() => 1n),
    )
  }
  let before = 0n
  return weights.map((weight) => {
    const given = (amount * before) / total
    before += weight
    return (amount * before) / total - given
  })
}

/** Of two amounts ≥ 0. */
export function divideRounded(dividend: bigint, divisor: bigint): bigint {
  return (2n * dividend + divisor) / (2n * divisor)
}

/** The least integer ≥ `dividend` ÷ `divisor`. */
export function divideUp(dividend: bigint, divisor: bigint): bigint {
  return (dividend + divisor - 1n) / divisor
}
