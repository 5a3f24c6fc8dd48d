import { describe, expect, it } from 'vitest'
import { Random } from '../../native/test/support/random.ts'
import { kolmogorovSmirnov } from './kolmogorov-smirnov.ts'

const range = (count: number, from = 0): number[] =>
  Array.from({ length: count }, (_, index) => from + index)

describe('the Kolmogorov-Smirnov test', () => {
  it('finds the largest distance of two cumulative shares', () => {
    expect(kolmogorovSmirnov([1, 2, 3, 4], [3, 4, 5, 6]).distance).toBe(0.5)
    expect(kolmogorovSmirnov([1, 1, 1, 2], [1, 2, 2, 2]).distance).toBe(0.5)
    expect(kolmogorovSmirnov([5, 5], [5]).distance).toBe(0)
  })

  it("gives Kolmogorov's own chances", () => {
    // Of the limit distribution: 5% beyond 1.358, 1% beyond 1.628, for samples without end.
    const shifted = (by: number) => kolmogorovSmirnov(range(20_000), range(20_000, by)).p
    expect(shifted(Math.round(1.358 * 200))).toBeCloseTo(0.05, 2)
    expect(shifted(Math.round(1.628 * 200))).toBeCloseTo(0.01, 2)
  })

  it('says 1 of equal samples and next to nothing of apart ones', () => {
    expect(kolmogorovSmirnov(range(50), range(50)).p).toBe(1)
    expect(kolmogorovSmirnov(range(50), range(50, 100)).p).toBeLessThan(1e-20)
    expect(() => kolmogorovSmirnov([], [1])).toThrow('no values')
  })

  it('calls one in twenty equal distributions different at 5%, and no more', () => {
    const random = new Random('kolmogorov-smirnov')
    const draw = () => Array.from({ length: 100 }, () => random.integer(1_000_000))
    const chances = range(400).map(() => kolmogorovSmirnov(draw(), draw()).p)
    const rejected = chances.filter((p) => p < 0.05).length
    expect(rejected).toBeGreaterThan(5)
    expect(rejected).toBeLessThan(40)
  })
})
