/**
 * From how many tenants on a pool costs 90% or 99% less than a dedicated machine for each. Pure.
 *
 *   busy    = requests × (prompt ÷ prefill + completion ÷ decode) ÷ churn      seconds a day
 *   hosts   = max(1, ⌈tenants × busy ÷ (86,400 × utilization)⌉)
 *   saving  = 1 − (hosts × machine + tenants × storage) ÷ (tenants × machine)   of a day's price
 *
 * For idle tenants hosts is 1, so the saving is 1 − 1 ÷ tenants but for storage: 90% needs 10 of
 * them and a bit, 99% needs 100. With use it tends to 1 − busy ÷ (86,400 × utilization), and where
 * that is below the goal no number of tenants reaches it.
 */
import { costOfStorage } from '#db/savings/machine-cost.ts'

/** What one host was measured to do; see measured-host.ts. */
export interface HostSpeed {
  readonly prefillTokensPerS: number
  /** All sequences together, each with an adapter of its own. */
  readonly decodeTokensPerS: number
  /** Throughput with adapters that come and go, as a part of that with all of them in slots. */
  readonly churnRatio: number
  /** Of one adapter. */
  readonly adapterBytes: number
}

export interface TenantUse {
  readonly requestsPerDay: number
  readonly promptTokens: number
  readonly completionTokens: number
}

export interface PoolPlan {
  readonly gpuPusdPerHour: bigint
  readonly storagePusdPerGibMonth: bigint
  /** Busy part of a host that is planned with, 1 to 100. */
  readonly utilizationPercent: number
}

export interface Threshold {
  /** The first number of tenants at which the goal is met; null = none up to `TENANTS_MAX`. */
  readonly reachedAt: number | null
  /** From this number on it is met for good: just after a host is added the saving dips. */
  readonly holdsFrom: number | null
}

/** Numbers beyond it are not looked at. */
export const TENANTS_MAX = 100_000
const US_PER_DAY = 86_400_000_000n

/** Microseconds a day that one tenant keeps a host busy. */
export function busyUsPerDay(use: TenantUse, speed: HostSpeed): bigint {
  const { prefillTokensPerS, decodeTokensPerS, churnRatio } = speed
  const seconds = use.promptTokens / prefillTokensPerS + use.completionTokens / decodeTokensPerS
  return BigInt(Math.ceil((use.requestsPerDay * seconds * 1e6) / churnRatio))
}

/** Hosts that carry `tenants`. */
export function hostsFor(tenants: number, busyUs: bigint, plan: PoolPlan): bigint {
  const wantedUs = BigInt(tenants) * busyUs * 100n
  const hostUs = US_PER_DAY * BigInt(plan.utilizationPercent)
  const hosts = (wantedUs + hostUs - 1n) / hostUs
  return hosts > 1n ? hosts : 1n
}

/** Of a day, in pico-USD. */
export function costOfDay(
  tenants: number,
  busyUs: bigint,
  adapterBytes: number,
  plan: PoolPlan,
): { readonly pool: bigint; readonly dedicated: bigint } {
  const machine = plan.gpuPusdPerHour * 24n
  const bytes = BigInt(tenants) * BigInt(adapterBytes)
  const storage = costOfStorage(bytes, US_PER_DAY, plan.storagePusdPerGibMonth)
  return {
    pool: hostsFor(tenants, busyUs, plan) * machine + storage,
    dedicated: BigInt(tenants) * machine,
  }
}

export function findThreshold(
  goalPercent: number,
  busyUs: bigint,
  adapterBytes: number,
  plan: PoolPlan,
): Threshold {
  let reachedAt: number | null = null
  let lastMissed = 0
  for (let tenants = 1; tenants <= TENANTS_MAX; tenants += 1) {
    const { pool, dedicated } = costOfDay(tenants, busyUs, adapterBytes, plan)
    if (pool * 100n <= dedicated * BigInt(100 - goalPercent)) reachedAt ??= tenants
    else lastMissed = tenants
  }
  const holdsFrom = lastMissed < TENANTS_MAX ? lastMissed + 1 : null
  return { reachedAt, holdsFrom }
}
