import { describe, expect, it } from 'vitest'
import { billingPeriodOf, parseBillingPeriod } from './billing-period.ts'

describe('parseBillingPeriod', () => {
  it('gives the half-open month in UTC, also over the turn of the year', () => {
    expect(parseBillingPeriod('2026-12')).toEqual({
      name: '2026-12',
      start: new Date('2026-12-01T00:00:00Z'),
      end: new Date('2027-01-01T00:00:00Z'),
    })
  })

  it.each(['2026-13', '2026-00', '2026-1', '26-01', '2026-01-01', '', ' 2026-01'])(
    'refuses %j',
    (name) => expect(parseBillingPeriod(name)).toBeNull(),
  )
})

describe('billingPeriodOf', () => {
  it.each([
    ['2026-02-01T00:00:00.000Z', '2026-02'],
    ['2026-01-31T23:59:59.999Z', '2026-01'],
  ])('puts %s into %s', (time, name) => {
    expect(billingPeriodOf(new Date(time))).toEqual(parseBillingPeriod(name))
  })
})
