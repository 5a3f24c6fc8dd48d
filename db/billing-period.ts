/** Billing periods: calendar months in UTC, half-open, named `YYYY-MM`. */

export interface BillingPeriod {
  /** `YYYY-MM` */
  readonly name: string
  /** Inclusive: the first moment of the month, UTC. */
  readonly start: Date
  /** Exclusive: the first moment of the next month. */
  readonly end: Date
}

/** null when the text names no month. */
export function parseBillingPeriod(name: string): BillingPeriod | null {
  const [, year, month] = /^(20\d\d)-(0[1-9]|1[0-2])$/.exec(name) ?? []
  return year === undefined ? null : billingPeriodOf(new Date(Date.UTC(+year, Number(month) - 1)))
}

/** The month that a moment lies in. */
export function billingPeriodOf(time: Date): BillingPeriod {
  const [year, month] = [time.getUTCFullYear(), time.getUTCMonth()]
  const start = new Date(Date.UTC(year, month))
  return { name: start.toISOString().slice(0, 7), start, end: new Date(Date.UTC(year, month + 1)) }
}
