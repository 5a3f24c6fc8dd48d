import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { parseUsd } from '#db/money.ts'
import { createRandom } from '../../gpu-host/test/support/random.ts'
import { readMeasuredHost } from './measured-host.ts'
import { busyUsPerDay, findThreshold, type PoolPlan, type TenantUse } from './tenant-threshold.ts'

const speed = readMeasuredHost(fileURLToPath(new URL('../../bench/results', import.meta.url)))
const plan: PoolPlan = {
  gpuPusdPerHour: parseUsd('2.5') ?? 0n,
  storagePusdPerGibMonth: parseUsd('0.02') ?? 0n,
  utilizationPercent: 50,
}
const LOW_USE: TenantUse = { requestsPerDay: 100, promptTokens: 500, completionTokens: 250 }
const HIGH_USE: TenantUse = { ...LOW_USE, requestsPerDay: 1000 }

const DAY_S = 86_400

/** Seconds that one host needs for a request, a piece of prompt and a token at a time. */
function serve(use: TenantUse): number {
  const slowed = 1 / speed.churnRatio
  let seconds = 0
  for (let read = 0; read < use.promptTokens; read += 1) seconds += slowed / speed.prefillTokensPerS
  for (let made = 0; made < use.completionTokens; made += 1) {
    seconds += slowed / speed.decodeTokensPerS
  }
  return seconds
}

/**
 * A day of `tenants` that send requests at random: what the pool of `hosts` was busy, and how far
 * behind it was at midnight. Each request goes to the host that is free first.
 */
function liveDay(tenants: number, use: TenantUse, hosts: number, random: () => number) {
  const arrivals: number[] = []
  for (let tenant = 0; tenant < tenants; tenant += 1) {
    const gap = (): number => (-Math.log(1 - random()) * DAY_S) / use.requestsPerDay
    for (let at = gap(); at < DAY_S; at += gap()) arrivals.push(at)
  }
  arrivals.sort((a, b) => a - b)
  const requestS = serve(use)
  const freeAt = Array.from({ length: hosts }, () => 0)
  let busyS = 0
  for (const at of arrivals) {
    let first = 0
    for (const [host, free] of freeAt.entries()) if (free < (freeAt[first] ?? 0)) first = host
    freeAt[first] = Math.max(at, freeAt[first] ?? 0) + requestS
    busyS += requestS
  }
  return { busyPart: busyS / (hosts * DAY_S), behindS: Math.max(0, ...freeAt) - DAY_S }
}

/** Hosts added one by one until the day leaves them idle enough; then every hour is counted. */
function countSaving(tenants: number, use: TenantUse, random: () => number): number {
  let hosts = 1
  while (liveDay(tenants, use, hosts, random).busyPart > plan.utilizationPercent / 100) hosts += 1
  let poolUsd = 0
  let dedicatedUsd = 0
  for (let hour = 0; hour < 24; hour += 1) {
    for (let host = 0; host < hosts; host += 1) poolUsd += 2.5
    for (let tenant = 0; tenant < tenants; tenant += 1) {
      dedicatedUsd += 2.5
      poolUsd += (speed.adapterBytes / 2 ** 30) * (0.02 / 730)
    }
  }
  return 1 - poolUsd / dedicatedUsd
}

/** The first number of tenants at which the counted saving meets the goal. */
function countThreshold(goal: number, use: TenantUse, tenantsMax: number): number | null {
  const random = createRandom(1)
  for (let tenants = 1; tenants <= tenantsMax; tenants += 1) {
    if (countSaving(tenants, use, random) >= goal) return tenants
  }
  return null
}

describe('findThreshold', () => {
  it('needs 10 and 100 idle tenants and hardly more, as storage is not free', () => {
    const idle = { ...LOW_USE, requestsPerDay: 0 }
    const busyUs = busyUsPerDay(idle, speed)
    expect(busyUs).toBe(0n)
    const { adapterBytes } = speed
    expect(findThreshold(90, busyUs, adapterBytes, plan)).toEqual({ reachedAt: 11, holdsFrom: 11 })
    expect(findThreshold(99, busyUs, adapterBytes, plan)).toEqual({
      reachedAt: 101,
      holdsFrom: 101,
    })
    const free = { ...plan, storagePusdPerGibMonth: 0n }
    expect(findThreshold(90, busyUs, adapterBytes, free).reachedAt).toBe(10)
    expect(findThreshold(99, busyUs, adapterBytes, free).reachedAt).toBe(100)
  })

  it.each([
    [90, LOW_USE],
    [99, LOW_USE],
    [90, HIGH_USE],
  ])('finds for %i% what a simulated pool counts', (goal, use) => {
    const { reachedAt } = findThreshold(goal, busyUsPerDay(use, speed), speed.adapterBytes, plan)
    const counted = countThreshold(goal / 100, use, 200)
    if (reachedAt === null || reachedAt > 200) expect(counted).toBeNull()
    else expect(Math.abs((counted ?? 0) - reachedAt)).toBeLessThanOrEqual(reachedAt * 0.02)
  })

  it('says that no number of tenants is enough where their use alone costs more', () => {
    const busyUs = busyUsPerDay(HIGH_USE, speed)
    const threshold = findThreshold(99, busyUs, speed.adapterBytes, plan)
    expect(threshold).toEqual({ reachedAt: null, holdsFrom: null })
    expect(countSaving(150, HIGH_USE, createRandom(2))).toBeLessThan(0.99)
  })

  it('plans hosts that keep up with a simulated day', () => {
    const tenants = 100
    const { busyPart, behindS } = liveDay(tenants, LOW_USE, 1, createRandom(3))
    const planned = (Number(busyUsPerDay(LOW_USE, speed)) * tenants) / (DAY_S * 1e6)
    expect(Math.abs(busyPart / planned - 1)).toBeLessThan(0.05)
    expect(behindS).toBeLessThan(60)
  })
})
