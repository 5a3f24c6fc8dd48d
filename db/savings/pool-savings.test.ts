import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PUSD_PER_USD } from '../money.ts'
import { splitAmount } from './machine-cost.ts'
import {
  type Assumptions,
  beginAtFirstUse,
  costModels,
  leastHosts,
  type ModelUse,
  projectTenants,
  savedPercent,
  sumCosts,
} from './pool-savings.ts'

const HOUR_MS = 3_600_000
const DAY_US = 86_400_000_000n

const assumptions: Assumptions = {
  startMs: 0,
  endMs: 24 * HOUR_MS,
  hosts: 1,
  gpuPusdPerHour: (5n * PUSD_PER_USD) / 2n,
  storagePusdPerGibMonth: PUSD_PER_USD / 50n,
  coldStartMs: 90_000,
  keepWarmMs: 300_000,
}

function createUse(change: Partial<ModelUse> = {}): ModelUse {
  return {
    tenant: 'acme',
    model: 'm',
    baseModel: 'base',
    requests: 0,
    gpuUs: 0n,
    swapUs: 0n,
    storedBytes: 0n,
    existsFromMs: 0,
    existsToMs: 24 * HOUR_MS,
    firstMs: 0,
    runs: [],
    ...change,
  }
}

const someUses = fc.array(
  fc
    .record({ gpuUs: fc.bigInt(0n, DAY_US / 8n), swapUs: fc.bigInt(0n, 1_000_000n) })
    .map(createUse),
  { minLength: 1, maxLength: 8 },
)

describe('beginAtFirstUse', () => {
  it('begins with the first deploy or request, and not before the period', () => {
    const base = createUse({ firstMs: 3 * HOUR_MS })
    const deployed = createUse({ firstMs: 2 * HOUR_MS, existsFromMs: 2 * HOUR_MS })
    const began = beginAtFirstUse([base, deployed], HOUR_MS)
    expect(began?.startMs).toBe(2 * HOUR_MS)
    expect(began?.uses.map(({ existsFromMs }) => existsFromMs)).toEqual(
      [2, 2].map((h) => h * HOUR_MS),
    )
    expect(beginAtFirstUse([createUse({ firstMs: 0 })], HOUR_MS)?.startMs).toBe(HOUR_MS)
    expect(beginAtFirstUse([], HOUR_MS)).toBeNull()
  })
})

describe('costModels', () => {
  it('hands out the whole bill of the hosts, to the pico-USD', () => {
    fc.assert(
      fc.property(someUses, fc.bigInt(1n, 10n ** 14n), fc.nat(3), (uses, gpuPusdPerHour, more) => {
        const hosts = leastHosts(uses, 0, assumptions.endMs) + more
        const costs = costModels(uses, { ...assumptions, hosts, gpuPusdPerHour })
        const { pool } = sumCosts(costs)
        expect(pool.used + pool.idle).toBe(BigInt(hosts) * 24n * gpuPusdPerHour)
        for (const cost of costs) expect(cost.pool.idle).toBeGreaterThanOrEqual(-1n)
      }),
    )
  })

  it('charges a model that sleeps its storage alone, and its dedicated machine all day', () => {
    const busy = createUse({ gpuUs: 3_600_000_000n })
    const asleep = createUse({ storedBytes: 2n ** 30n })
    const [, cost] = costModels([busy, asleep], assumptions)
    expect(cost?.pool).toMatchObject({
      used: 0n,
      idle: 0n,
      total: 657_534_247n,
    })
    expect(cost?.dedicated).toEqual({ machines: 1, total: 60n * PUSD_PER_USD })
    expect(cost?.scaleToZero).toMatchObject({ coldStarts: 0, total: 0n })
  })

  it('spreads idle time evenly while nobody uses anything', () => {
    const costs = costModels([createUse(), createUse(), createUse()], assumptions)
    expect(costs.map(({ pool }) => pool.idle)).toEqual([1, 1, 1].map(() => 20n * PUSD_PER_USD))
  })

  it('pays a machine that scales to zero for cold start, work and the time kept warm', () => {
    const runs = [{ startMs: HOUR_MS, endMs: HOUR_MS + 10_000, requests: 1 }]
    const [cost] = costModels([createUse({ gpuUs: 1n, runs })], assumptions)
    expect(cost?.scaleToZero).toEqual({
      coldStarts: 1,
      upMs: 400_000,
      delayedRequests: 1,
      waitedMs: 90_000,
      total: 277_777_777_778n,
    })
  })

  it('gives a model that needs more than one machine as many', () => {
    const [cost] = costModels([createUse({ gpuUs: 2n * DAY_US + 1n })], {
      ...assumptions,
      hosts: 3,
    })
    expect(cost?.dedicated.machines).toBe(3)
  })
})

describe('projectTenants', () => {
  it('grows the present tenants, and the hosts with their use', () => {
    const tenants = ['a', 'b'].map((tenant) => createUse({ tenant, gpuUs: DAY_US / 100n }))
    const costs = costModels(tenants, assumptions)
    const at = (count: number) =>
      projectTenants(costs, count, { ...assumptions, utilizationPercent: 50 })
    expect(at(50)).toMatchObject({ hosts: 1, pool: 60n * PUSD_PER_USD })
    expect(at(51)).toMatchObject({ hosts: 2 })
    expect(at(100)).toMatchObject({
      hosts: 2,
      pool: 120n * PUSD_PER_USD,
      dedicated: 6000n * PUSD_PER_USD,
    })
    expect(savedPercent(at(100).pool, at(100).dedicated)).toBe(98)
  })
})

describe('splitAmount', () => {
  it('loses nothing', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 10n ** 30n),
        fc.array(fc.bigInt(0n, 10n ** 15n), { minLength: 1, maxLength: 20 }),
        (amount, weights) => {
          const shares = splitAmount(amount, weights)
          expect(shares.reduce((sum, share) => sum + share, 0n)).toBe(amount)
          expect(shares.every((share) => share >= 0n)).toBe(true)
        },
      ),
    )
  })
})
