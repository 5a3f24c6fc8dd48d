import { expect, it } from 'vitest'
import { ratioOfAdded, toAddedLatency } from './edge-report.ts'

/** 1 … 100, each more by `ms`. */
const times = (ms: number) => Array.from({ length: 100 }, (_, i) => i + 1 + ms)
const calm = { direct: times(0), via: times(2) }
const noisy = { direct: times(1000), via: times(1003) }
const slow = { direct: times(0), via: times(10) }

it('compares within a round, so that a noisy one changes what is added but little', () => {
  expect(toAddedLatency([calm, noisy, calm])).toEqual({
    direct_ms: { p50: 50, p99: 99 },
    edge_ms: { p50: 52, p99: 101 },
    added_ms: { p50: 2, p99: 2 },
  })
})

it('takes ratios round by round', () => {
  expect(ratioOfAdded([slow, slow, slow], [calm, noisy, calm], 0.5)).toBe(5)
})

it('refuses to say anything of no round', () => {
  expect(() => toAddedLatency([])).toThrow('at least one value')
})
