import { expect, it } from 'vitest'
import { Random } from '../../native/test/support/random.ts'
import { slopeMibPerMinute } from './memory-slope.ts'

const MIB = 1024 * 1024

/** A sawtooth of 30 MiB, as garbage collection makes it, on memory that grows by `perMinute`. */
function heapSamples(perMinute: number, warmUp = 0) {
  const random = new Random('rss', perMinute)
  return Array.from({ length: 120 }, (_, second) => ({
    atMs: 5000 + second * 1000,
    bytes:
      MIB *
      (100 + warmUp * Math.min(second, 30) + (perMinute * second) / 60 + 30 * random.fraction()),
  }))
}

it('finds what leaks below the sawtooth of collections', () => {
  expect(slopeMibPerMinute(heapSamples(0))).toBeLessThan(8)
  expect(slopeMibPerMinute(heapSamples(60))).toBeGreaterThan(50)
  expect(slopeMibPerMinute(heapSamples(60))).toBeLessThan(70)
})

it('leaves out how a heap grows to its size', () => {
  expect(slopeMibPerMinute(heapSamples(0, 10))).toBeLessThan(8)
})

it('refuses a handful of samples', () => {
  expect(() => slopeMibPerMinute(heapSamples(0).slice(0, 9))).toThrow('too few samples')
})
