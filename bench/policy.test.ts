import { describe, expect, it } from 'vitest'
import { POPULARITIES } from '../native/test/support/popularity.ts'
import { RUN_MAX_MS } from './lib/policy-sim.ts'
import { EVICTIONS, STARTS, simulateEviction, simulateStart } from './policy.ts'

const SEEDS = [1, 2, 3]

describe('eviction, simulated', () => {
  const loads = (eviction: string, one: Omit<Parameters<typeof simulateEviction>[0], 'eviction'>) =>
    simulateEviction({ ...one, eviction }).loads

  it.each(SEEDS)('by demand loads least on Zipf traffic, then GDSF, then LRU (seed %i)', (seed) => {
    for (const ratio of [10, 100]) {
      const one = { seed, popularity: 'zipf', ratio } as const
      const [demand, gdsf, lru] = ['demand', 'gdsf', 'lru'].map((name) => loads(name, one))
      expect(demand).toBeLessThan(gdsf ?? 0)
      expect(gdsf).toBeLessThan(lru ?? 0)
      expect(demand).toBeLessThan(0.92 * (lru ?? 0))
    }
  })

  it.each(SEEDS)('by demand reads the disk less than LRU when RAM is short (seed %i)', (seed) => {
    const one = { seed, popularity: 'zipf', ratio: 100 } as const
    const [demand, lru] = ['demand', 'lru'].map((eviction) =>
      simulateEviction({ ...one, eviction }),
    )
    expect(demand?.reads).toBeLessThan(lru?.reads ?? 0)
  })

  it.each(SEEDS)('by demand loads less than LRU though fashions change, too (seed %i)', (seed) => {
    for (const ratio of [2, 10, 100]) {
      const one = { seed, popularity: 'zipf', ratio, hasFashions: true } as const
      expect(loads('demand', one)).toBeLessThan(0.97 * loads('lru', one))
    }
  })

  it.each(SEEDS)('is no choice on uniform traffic, so no policy is worse (seed %i)', (seed) => {
    const one = { seed, popularity: 'uniform', ratio: 10 } as const
    const all = Object.keys(EVICTIONS).map((eviction) => loads(eviction, one))
    expect(Math.max(...all)).toBeLessThan(1.03 * Math.min(...all))
  })
})

describe('starting, simulated', () => {
  it.each(POPULARITIES)(
    'bounds what waiting for a slot adds to strict order (%s)',
    (popularity) => {
      for (const seed of SEEDS) {
        const blocked = (start: string): number =>
          simulateStart({ seed, popularity, ratio: 10, start }).blockedMaxMs
        const bound = blocked('in order') + (STARTS.bounded ?? 0) + RUN_MAX_MS
        expect(blocked('bounded'), `seed ${seed}`).toBeLessThanOrEqual(bound)
      }
    },
  )

  it.each(SEEDS)('residents first would leave cold requests waiting (seed %i)', (seed) => {
    const one = { seed, popularity: 'uniform', ratio: 100 } as const
    const [bounded, unbounded] = ['bounded', 'residents first'].map((start) =>
      simulateStart({ ...one, start }),
    )
    expect(unbounded?.blockedMaxMs).toBeGreaterThan(3 * (bounded?.blockedMaxMs ?? 0))
  })

  it.each(SEEDS)('within the bound costs no throughput (seed %i)', (seed) => {
    const [inOrder, bounded, residentsFirst] = Object.keys(STARTS).map(
      (start) => simulateStart({ seed, popularity: 'zipf', ratio: 10, start }).tokensPerSecond,
    )
    expect(bounded).toBeGreaterThan(0.97 * Math.max(inOrder ?? 0, residentsFirst ?? 0))
  })
})
