import { describe, expect, it } from 'vitest'
import { mean, median, percentile, significant } from './statistics.ts'

describe('percentile', () => {
  it('is the nearest rank, whatever the order of the values', () => {
    const values = [5, 1, 4, 2, 3]
    expect(percentile(values, 0)).toBe(1)
    expect(median(values)).toBe(3)
    expect(percentile(values, 0.99)).toBe(5)
    expect(percentile([7], 0.5)).toBe(7)
  })

  it('refuses an empty list', () => {
    expect(() => percentile([], 0.5)).toThrow(RangeError)
  })
})

it('significant keeps the leading digits', () => {
  expect(significant(123.456, 4)).toBe(123.5)
  expect(significant(0.00123456, 3)).toBe(0.00123)
})

it('mean weighs every value alike', () => {
  expect(mean([1, 2, 6])).toBe(3)
})
