/**
 * Who gets how much of a busy host, and who is let in: the real scheduler and journal on virtual
 * time, with steps that cost what they do on two cores with the default base. A failure names its
 * seed.
 */
import { afterEach, describe, expect, it } from 'vitest'
import type { GenerateRequest } from '../protocol.ts'
import { createRandom } from './support/random.ts'
import { type RigOptions, SchedulerRig } from './support/scheduler-rig.ts'
import { SimulatedDisk } from './support/simulated-disk.ts'
import { TenantTraffic } from './support/tenant-traffic.ts'

const SEQUENCES = 16
const STEP_US = 10_000
const ROW_US = 700

const rigs: SchedulerRig[] = []
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.dispose()
})

function build(limits: RigOptions['limits'] = {}): SchedulerRig {
  const rig = new SchedulerRig({
    journal: { disk: new SimulatedDisk({ random: createRandom(1), fault: () => null }) },
    engine: {
      limits: { sequenceCount: SEQUENCES, rowsMax: 64 },
      stepUs: (rows) => STEP_US + rows * ROW_US,
    },
    limits: {
      ...{ queueDepthMax: 256, queueDepthTenantMax: 64, queueWaitMaxMs: 60_000 },
      ...{ prefillRowsMax: 32, stepTargetUs: 50_000, ...limits },
    },
  })
  rigs.push(rig)
  return rig
}

const prompt = (length: number): Pick<GenerateRequest, 'input'> => ({
  input: { kind: 'tokens', tokens: Array.from({ length }, (_, i) => 65 + (i % 26)) },
})

function percentile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] ?? Number.NaN
}

function jain(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0)
  const squares = shares.reduce((total, share) => total + share * share, 0)
  return (sum * sum) / (shares.length * squares)
}

describe('tenants that all have requests waiting', () => {
  it.each([1, 2, 3])('get tokens by weight, within what is running (seed %i)', async (seed) => {
    const random = createRandom(seed)
    // No wait is too long here: every line is full all the time.
    const rig = build({ waitTargetMs: 60_000 })
    const tokensMax = 16
    const mixed = (): Partial<GenerateRequest> => ({
      ...prompt(1 + Math.floor(random() * 4)),
      max_tokens: 1 + Math.floor(random() * tokensMax),
    })
    const short = (): Partial<GenerateRequest> => ({ ...prompt(2), max_tokens: 3 })
    const many = (): Partial<GenerateRequest> => ({ ...prompt(3), max_tokens: 15, n: 4 })
    const plans = [
      { id: 'ten_mixed', weight: 1, next: mixed, waiting: 40 },
      { id: 'ten_heavy', weight: 3, next: mixed, waiting: 20 },
      { id: 'ten_short', weight: 1, next: short, waiting: 60 },
      { id: 'ten_many', weight: 1, next: many, waiting: 10 },
    ]
    const tenants = plans.map((plan) => ({
      weight: plan.weight,
      traffic: new TenantTraffic(rig, plan),
      waiting: plan.waiting,
    }))
    for (const { traffic, waiting } of tenants) traffic.keepBusy(waiting)
    // Each may have as much as all sequences cost in flight; prompts of few tokens are in it.
    const bound = SEQUENCES * (tokensMax + 4)
    let spread = 0
    for (let second = 0; second < 10; second++) {
      await rig.clock.advance(1000)
      const shares = tenants.map(({ traffic, weight }) => traffic.tokens / weight)
      spread = Math.max(spread, Math.max(...shares) - Math.min(...shares))
      expect(spread).toBeLessThanOrEqual(bound)
    }
    const shares = tenants.map(({ traffic, weight }) => traffic.tokens / weight)
    // The bound means something: all got many times as much.
    expect(Math.min(...shares)).toBeGreaterThan(3 * bound)
    expect(jain(shares)).toBeGreaterThan(0.98)
  })

  it('give the host up to a newcomer within a step, while it is full of long requests', async () => {
    const rig = build()
    const flood = new TenantTraffic(rig, {
      id: 'ten_flood',
      next: () => ({ ...prompt(4), max_tokens: 400 }),
    })
    flood.keepBusy(30)
    await rig.clock.advance(2000)
    expect(rig.scheduler.load().sequencesRunning).toBe((SEQUENCES * 7) / 8)
    const newcomer = new TenantTraffic(rig, { id: 'ten_new', next: () => ({ ...prompt(4) }) })
    newcomer.ask()
    await rig.clock.advance(3 * ((STEP_US + 16 * ROW_US) / 1000))
    expect(newcomer.firstTokens).toHaveLength(1)
  })
})

describe('a tenant at ten times its share', () => {
  const request = (): Partial<GenerateRequest> => ({ ...prompt(12), max_tokens: 24 })
  /** Requests a second of this kind that the host can serve: 16 at once. */
  const capacity = SEQUENCES / ((24 + 1) * ((STEP_US + (SEQUENCES + 4) * ROW_US) / 1e6))

  async function victimTtfts(floodShare: number): Promise<number[]> {
    const rig = build()
    const untilMs = 40_000
    // The same arrivals of the victim in every run.
    const [random, floodRandom] = [createRandom(11), createRandom(12)]
    const victim = new TenantTraffic(rig, { id: 'ten_victim', next: request })
    const flood = new TenantTraffic(rig, { id: 'ten_flood', next: request })
    victim.askAtRandom(0.2 * capacity, untilMs, random)
    if (floodShare > 0) flood.askAtRandom(floodShare * capacity, untilMs, floodRandom)
    await rig.clock.advance(untilMs)
    expect(victim.failed + victim.refusals.length).toBe(0)
    if (floodShare > 1) expect(flood.refusals.length).toBeGreaterThan(0)
    return victim.ttftsBetween(5000, untilMs)
  }

  it("leaves the others' first tokens where they were", async () => {
    const atShare = await victimTtfts(0.5)
    const flooded = await victimTtfts(5)
    expect(flooded.length).toBeGreaterThan(100)
    expect(percentile(flooded, 0.95) / percentile(atShare, 0.95)).toBeLessThan(1.2)
    expect(percentile(flooded, 0.99) / percentile(atShare, 0.99)).toBeLessThan(1.2)
  })
})

describe('more than the host can do', () => {
  it('costs nothing of what it does, and no patience of those let in', async () => {
    const random = createRandom(5)
    const rig = build()
    const next = (): Partial<GenerateRequest> => ({
      ...prompt(1 + Math.floor(random() * 20)),
      max_tokens: 10 + Math.floor(random() * 40),
    })
    const capacity = SEQUENCES / ((30 + 1) * ((STEP_US + (SEQUENCES + 3) * ROW_US) / 1e6))
    const tenants = Array.from(
      { length: 10 },
      (_, index) => new TenantTraffic(rig, { id: `ten_${index}`, next }),
    )
    const phases: { goodput: number; p99: number; refused: number }[] = []
    for (const load of [0.8, 1.2, 2, 3, 0.8]) {
      const fromMs = rig.clock.nowUs() / 1000
      const before = tenants.map(({ tokens, refusals }) => ({ tokens, refused: refusals.length }))
      const rate = (load * capacity) / tenants.length
      for (const tenant of tenants) tenant.askAtRandom(rate, fromMs + 30_000, random)
      await rig.clock.advance(30_000)
      // A few seconds for the wait to become what this load makes it.
      const ttfts = tenants.flatMap((tenant) => tenant.ttftsBetween(fromMs + 5000, fromMs + 30_000))
      const grown = (of: (at: number) => number): number =>
        tenants.reduce((sum, _, index) => sum + of(index), 0)
      phases.push({
        goodput: grown((i) => (tenants[i]?.tokens ?? 0) - (before[i]?.tokens ?? 0)) / 30,
        p99: percentile(
          ttfts.sort((a, b) => a - b),
          0.99,
        ),
        refused: grown((i) => (tenants[i]?.refusals.length ?? 0) - (before[i]?.refused ?? 0)),
      })
    }
    const [first, , , worst, last] = phases
    const peak = Math.max(...phases.map(({ goodput }) => goodput))
    expect(worst?.refused).toBeGreaterThan(100)
    expect(worst?.goodput).toBeGreaterThan(0.9 * peak)
    expect(worst?.p99).toBeLessThan(1.25 * (first?.p99 ?? 0))
    expect(last?.p99).toBeLessThan(1.5 * (first?.p99 ?? 0))
    for (const tenant of tenants) {
      expect(tenant.failed).toBe(0)
      for (const retryMs of tenant.refusals) expect(retryMs).toBeGreaterThanOrEqual(500)
    }
  })
})

describe('a deadline', () => {
  const long = (): Partial<GenerateRequest> => ({ ...prompt(4), max_tokens: 200 })

  it('that the wait would pass is refused at once; one that is long enough is kept', async () => {
    const rig = build()
    const flood = new TenantTraffic(rig, { id: 'ten_a', next: long })
    flood.keepBusy(24)
    await rig.clock.advance(3000)
    const hurried = new TenantTraffic(rig, {
      id: 'ten_a',
      next: () => ({ ...long(), deadline_ms: 100 }),
    })
    expect(hurried.ask()).toBe(false)
    expect(hurried.refusals[0]).toBeGreaterThanOrEqual(500)
    const patient = new TenantTraffic(rig, {
      id: 'ten_b',
      next: () => ({ ...prompt(4), deadline_ms: 100 }),
    })
    // Not its line: a place is kept for who runs nothing.
    expect(patient.ask()).toBe(true)
    await rig.clock.advance(1000)
    expect(patient).toMatchObject({ finished: 1, failed: 0 })
  })

  it('that passes in the queue ends the request before it has run, for nothing', async () => {
    // Nothing is measured yet, so nothing is refused for its wait.
    const rig = build()
    const first = new TenantTraffic(rig, { id: 'ten_a', next: long })
    for (let i = 0; i < SEQUENCES + 2; i++) first.ask()
    const hurried = new TenantTraffic(rig, {
      id: 'ten_a',
      next: () => ({ ...long(), request_id: 'req_hurried', deadline_ms: 500 }),
    })
    expect(hurried.ask()).toBe(true)
    await rig.clock.advance(700)
    expect(hurried).toMatchObject({ failed: 1, tokens: 0 })
    await rig.clock.advance(15_000)
    expect(first.finished).toBe(SEQUENCES + 2)
    expect(rig.usage().filter(({ request_id }) => request_id === 'req_hurried')).toEqual([])
  })
})
