/** Billing periods: calendar months in UTC, half-open, named `YYYY-MM`. */

export interface BillingPeriod {
  /** `YYYY-MM` */
  readonly name: string
  /** Inclusive: the first moment of the month, UTC. */
  readonly start: Date
  /** Exclusive: the first moment of the next month. */
  readonly end: Date
}

/** How long after its period a draft waits for events that come late. */
export const GRACE_MS = 3_600_000

/** What `parseBillingPeriod` takes, for people. */
export const BILLING_PERIOD_FORM = 'a month in UTC from 2000-01 to 2099-12, such as 2026-11'

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

/** Why a draft of the period cannot be finalized yet; null = it can. */
export function whyNotDue(
  periodEnd: Date,
  now: Date,
  graceMs: number,
): 'period_open' | 'in_grace' | null {
  if (now < periodEnd) return 'period_open'
  return now.getTime() < periodEnd.getTime() + graceMs ? 'in_grace' : null
}
