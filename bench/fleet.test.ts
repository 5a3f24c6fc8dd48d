import { describe, expect, it } from 'vitest'
import { measuredCosts, stepTimeMs } from './fleet/cost-model.ts'
import { EventHeap } from './fleet/event-heap.ts'
import { planFaults } from './fleet/fault-plan.ts'
import { jainIndex, toFleetReport } from './fleet/fleet-report.ts'
import { type FleetResult, OUTCOMES, simulateFleet } from './fleet/fleet-sim.ts'
import { Residency, ResidencyIndex } from './fleet/residency.ts'
import { createRouter, POLICIES, type PolicyName } from './fleet/routers.ts'
import { ARRIVALS, type Arrivals, drawTraffic } from './fleet/traffic.ts'

const costs = measuredCosts()
const LENGTHS = {
  promptMedian: 64,
  promptMax: 512,
  completionMedian: 24,
  completionMax: 256,
  sigma: 0.8,
}

interface Case {
  readonly arrivals?: Arrivals
  readonly seed?: number
  readonly hosts?: number
  readonly rps?: number
  readonly requests?: number
}

const known = new Map<string, ReturnType<typeof simulateAnew>>()

/** Runs are repeatable, so what one test has run need not run for the next. */
function simulate(policy: PolicyName, one: Case = {}) {
  const name = JSON.stringify([policy, one])
  const run = known.get(name) ?? simulateAnew(policy, one)
  known.set(name, run)
  return run
}

function simulateAnew(policy: PolicyName, one: Case = {}) {
  const { arrivals = 'zipf', seed = 1, hosts = 12, requests = 3000 } = one
  const { rps = 8 * hosts } = one
  const tenants = 100 * hosts
  const traffic = drawTraffic({
    ...{ seed, arrivals, adapters: tenants, requests, rps, lengths: LENGTHS },
  })
  const warmUp = requests / 4
  const endMs = traffic.arrivedMs[requests - 1] ?? 0
  const faults = planFaults(hosts, traffic.arrivedMs[warmUp] ?? 0, endMs, seed)
  const router = createRouter(policy, { seed, slots: costs.host.slots, attempts: 3 })
  const result = simulateFleet({
    ...{
      seed,
      hosts,
      edges: 2,
      adapters: tenants,
      tenants,
      costs,
      traffic,
      router,
      faults,
      warmUp,
    },
  })
  return { result, report: toFleetReport({ result, traffic, costs, tenants, warmUp }) }
}

const count = ({ outcomes }: FleetResult, outcome: number): number =>
  outcomes.filter((each) => each === outcome).length

describe('a simulated pool', () => {
  it.each(POLICIES)('ends every request once, though hosts die and drain (%s)', (policy) => {
    for (const arrivals of ARRIVALS) {
      const { result } = simulate(policy, { arrivals })
      expect(result.ends.every((ends) => ends === 1)).toBe(true)
      expect(count(result, OUTCOMES.pending)).toBe(0)
      // A token came of every request that was served, and of none that was refused.
      const isOdd = (outcome: number, i: number): boolean => {
        if (outcome === OUTCOMES.refused) return !Number.isNaN(result.ttftMs[i])
        return outcome === OUTCOMES.served && !((result.ttftMs[i] ?? 0) > 0)
      }
      expect(result.outcomes.findIndex(isOdd)).toBe(-1)
    }
  })

  it('is the same for the same seed, and another for another', () => {
    const [first, again, other] = [1, 1, 2].map(
      (seed) => simulateAnew('nozzle', { arrivals: 'zipf', seed }).result,
    )
    expect(again).toEqual(first)
    expect(other).not.toEqual(first)
  })

  it('cuts only what a killed host had begun', () => {
    const { result } = simulate('nozzle', { arrivals: 'zipf' })
    const cut = count(result, OUTCOMES.cut)
    expect(cut).toBeGreaterThan(0)
    expect(cut).toBeLessThanOrEqual(costs.host.sequences)
  })

  it('serves a lone request as fast as its steps take', () => {
    const { result } = simulate('least-load', { hosts: 1, rps: 0.01, requests: 8 })
    const traffic = drawTraffic({
      ...{ seed: 1, arrivals: 'zipf', adapters: 100, requests: 8, rps: 0.01, lengths: LENGTHS },
    })
    const prompt = traffic.promptTokens[7] ?? 0
    const rows = Math.min(prompt, costs.host.prefillRowsMax)
    const leastMs = stepTimeMs(costs.step, { decode: 0, prompt: rows, distinct: 1 }) + costs.pathMs
    const { copyMs, diskMs, copyDrag } = costs.load
    const mostMs = leastMs + copyMs * (1 + copyDrag) + diskMs
    expect(result.ttftMs[7]).toBeGreaterThanOrEqual(leastMs - 1e-6)
    expect(prompt).toBeLessThan(costs.host.prefillRowsMax)
    expect(result.ttftMs[7]).toBeLessThanOrEqual(mostMs + 1e-6)
  })
})

describe("Nozzle's routing, simulated", () => {
  it.each(ARRIVALS)('loads less than what does not know residency (%s)', (arrivals) => {
    const loads = (policy: PolicyName): number => simulate(policy, { arrivals }).report.loads_per_1k
    const ours = loads('nozzle')
    for (const other of ['round-robin', 'least-load'] as const) {
      expect(ours, other).toBeLessThan(loads(other))
    }
  })

  it.each(ARRIVALS)('has a shorter tail than rendezvous hashing alone (%s)', (arrivals) => {
    const tail = (policy: PolicyName): number => simulate(policy, { arrivals }).report.ttft_p99
    expect(tail('nozzle')).toBeLessThan(tail('rendezvous'))
  })
})

describe('traffic', () => {
  const draw = (arrivals: Arrivals) =>
    drawTraffic({
      ...{ seed: 3, arrivals, adapters: 10_000, requests: 50_000, rps: 1000, lengths: LENGTHS },
    })

  it.each(ARRIVALS)('comes in order, at the rate asked for (%s)', (arrivals) => {
    const { arrivedMs } = draw(arrivals)
    expect(arrivedMs).toEqual(Float64Array.from(arrivedMs).sort())
    expect(arrivedMs.at(-1)).toBeGreaterThan(45_000)
    expect(arrivedMs.at(-1)).toBeLessThan(55_000)
  })

  it('asks for the first adapter as often as exponent 1 says', () => {
    const first = draw('zipf').adapter.filter((adapter) => adapter === 0).length
    const harmonic = Array.from({ length: 10_000 }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b)
    expect(first / 50_000).toBeGreaterThan(0.93 / harmonic)
    expect(first / 50_000).toBeLessThan(1.07 / harmonic)
  })

  it('is bursty: a fifth of the adapters take nearly all, in bunches', () => {
    const { adapter, arrivedMs } = draw('bursty')
    const popular = adapter.filter((each) => each < 1860).length / 50_000
    expect(popular).toBeGreaterThan(0.98)
    const perSecond = (which: (i: number) => boolean): number[] => {
      const counts = new Array<number>(50).fill(0)
      for (const [i, atMs] of arrivedMs.entries()) {
        const second = Math.floor(atMs / 1000)
        if (second < 50 && which(i)) counts[second] = (counts[second] ?? 0) + 1
      }
      return counts
    }
    const variance = perSecond((i) => adapter[i] === 20)
    const mean = variance.reduce((a, b) => a + b) / 50
    const spread = variance.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 50
    // Poisson arrivals would have 1.
    expect(spread / mean).toBeGreaterThan(3)
  })
})

describe('what an edge hears of residency', () => {
  it('is what was true at the heartbeat, though it changed since', () => {
    const residency = new Residency(new ResidencyIndex(), 0)
    residency.set('a', 'disk')
    const first = residency.beat()
    residency.set('a', 'ram')
    residency.set('a', 'slot')
    const second = residency.beat()
    residency.set('a', 'ram')
    expect(residency.tierAt('a', first)).toBe('disk')
    expect(residency.tierAt('a', second)).toBe('slot')
    expect(residency.tierAt('a', residency.beat())).toBe('ram')
    expect(residency.tierAt('b', second)).toBeNull()
  })
})

describe('the calendar', () => {
  it('gives events in order of time, and of arrival where times are equal', () => {
    const heap = new EventHeap()
    const times = Array.from({ length: 3000 }, (_, i) => (i * 7919) % 101)
    for (const [i, atMs] of times.entries()) heap.push(atMs, 1, i, 2 * i)
    const event = { atMs: 0, kind: 0, target: 0, version: 0 }
    const expected = times
      .map((atMs, target) => ({ atMs, kind: 1, target, version: 2 * target }))
      .sort((a, b) => a.atMs - b.atMs || a.target - b.target)
    for (const wanted of expected) {
      expect(heap.pop(event)).toBe(true)
      expect(event).toEqual(wanted)
    }
    expect(heap.pop(event)).toBe(false)
  })
})

describe('the Jain index', () => {
  it('is 1 for equals, and 1/n where one has all', () => {
    expect(jainIndex([2, 2, 2])).toBeCloseTo(1)
    expect(jainIndex([5, 0, 0, 0])).toBeCloseTo(0.25)
  })
})
