/** The month that an invoice is of, as people name it. */
import { BILLING_PERIOD_FORM, type BillingPeriod, parseBillingPeriod } from '#db/billing-period.ts'
import { CliError } from '../lib/cli-error.ts'

/** Throws a `usage` error when the text names no month that can be billed. */
export function readMonth(text: string): BillingPeriod {
  const period = parseBillingPeriod(text)
  if (period !== null) return period
  throw new CliError('usage', `<month> must be ${BILLING_PERIOD_FORM}, not "${text}"`)
}
