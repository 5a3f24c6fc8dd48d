/**
 * What each model cost in this pool, against a dedicated machine for each and against machines that
 * scale to zero. Pure: measured use and stated assumptions in, integers out. Nothing of the pool's
 * bill is left out: the hosts' idle time is spread over the models by their use.
 */
import { costOfStorage, costOfTime, divideRounded, divideUp, splitAmount } from './machine-cost.ts'
import { type Run, replayScaleToZero, type ScaleToZeroUse } from './scale-to-zero.ts'

export interface ModelUse {
  /** null = of no tenant alone: a base model. */
  readonly tenant: string | null
  readonly model: string
  readonly baseModel: string
  readonly requests: number
  readonly gpuUs: bigint
  readonly swapUs: bigint
  /** Of all its adapter versions; 0 = a base model. */
  readonly storedBytes: bigint
  /** Within the period. */
  readonly existsFromMs: number
  readonly existsToMs: number
  /** Its deploy or first request, perhaps before the period. */
  readonly firstMs: number
  readonly runs: readonly Run[]
}

export interface Assumptions {
  readonly startMs: number
  readonly endMs: number
  readonly hosts: number
  /** Of one machine, whether a host of the pool or an alternative to it. */
  readonly gpuPusdPerHour: bigint
  readonly storagePusdPerGibMonth: bigint
  readonly coldStartMs: number
  readonly keepWarmMs: number
}

/** All money in pico-USD. */
export interface ModelCost {
  readonly use: ModelUse
  readonly pool: {
    /** Of the time that its rows and loads took. */
    readonly used: bigint
    /** Its share of the time in which the hosts waited. */
    readonly idle: bigint
    readonly storage: bigint
    readonly total: bigint
  }
  readonly dedicated: { readonly machines: number; readonly total: bigint }
  readonly scaleToZero: ScaleToZeroUse & { readonly total: bigint }
}

export interface Totals {
  readonly requests: number
  readonly gpuUs: bigint
  readonly swapUs: bigint
  readonly pool: ModelCost['pool']
  readonly dedicated: ModelCost['dedicated']
  readonly scaleToZero: ModelCost['scaleToZero']
}

/**
 * The first moment of anything in `uses`, and they from then on: hosts of a pool that was made in
 * the period cost nothing before. Null where nothing was used or deployed.
 */
export function beginAtFirstUse(
  uses: readonly ModelUse[],
  startMs: number,
): { readonly startMs: number; readonly uses: readonly ModelUse[] } | null {
  if (uses.length === 0) return null
  const firstMs = uses.reduce((first, use) => Math.min(first, use.firstMs), Infinity)
  const beginMs = Math.max(startMs, firstMs)
  const from = (use: ModelUse) => ({ ...use, existsFromMs: Math.max(use.existsFromMs, beginMs) })
  return { startMs: beginMs, uses: uses.map(from) }
}

/** Hosts that the use needs at least, all of them busy all the time. */
export function leastHosts(uses: readonly ModelUse[], startMs: number, endMs: number): number {
  const usedUs = uses.reduce((sum, use) => sum + busyUs(use), 0n)
  return Math.max(1, Number(divideUp(usedUs, BigInt(endMs - startMs) * 1000n)))
}

/** One entry per use, in the same order. `hosts` must be at least `leastHosts`. */
export function costModels(uses: readonly ModelUse[], wish: Assumptions): ModelCost[] {
  const hostsUs = BigInt(wish.hosts) * BigInt(wish.endMs - wish.startMs) * 1000n
  const used = uses.map((use) => costOfTime(busyUs(use), wish.gpuPusdPerHour))
  const idleTotal = costOfTime(hostsUs, wish.gpuPusdPerHour) - used.reduce((a, b) => a + b, 0n)
  const idle = splitAmount(idleTotal, uses.map(busyUs))
  return uses.map((use, i) => {
    const existsUs = BigInt(use.existsToMs - use.existsFromMs) * 1000n
    const { gpuPusdPerHour, storagePusdPerGibMonth } = wish
    const storage = costOfStorage(use.storedBytes, existsUs, storagePusdPerGibMonth)
    const share = { used: used[i] ?? 0n, idle: idle[i] ?? 0n, storage }
    return {
      use,
      pool: { ...share, total: share.used + share.idle + storage },
      dedicated: costDedicated(use, existsUs, gpuPusdPerHour),
      scaleToZero: costScaleToZero(use, wish),
    }
  })
}

export function sumCosts(costs: readonly ModelCost[]): Totals {
  const sum = (read: (cost: ModelCost) => bigint) => costs.reduce((all, c) => all + read(c), 0n)
  const count = (read: (cost: ModelCost) => number) => costs.reduce((all, c) => all + read(c), 0)
  return {
    requests: count(({ use }) => use.requests),
    gpuUs: sum(({ use }) => use.gpuUs),
    swapUs: sum(({ use }) => use.swapUs),
    pool: {
      used: sum(({ pool }) => pool.used),
      idle: sum(({ pool }) => pool.idle),
      storage: sum(({ pool }) => pool.storage),
      total: sum(({ pool }) => pool.total),
    },
    dedicated: {
      machines: count(({ dedicated }) => dedicated.machines),
      total: sum(({ dedicated }) => dedicated.total),
    },
    scaleToZero: {
      coldStarts: count(({ scaleToZero }) => scaleToZero.coldStarts),
      upMs: count(({ scaleToZero }) => scaleToZero.upMs),
      delayedRequests: count(({ scaleToZero }) => scaleToZero.delayedRequests),
      waitedMs: count(({ scaleToZero }) => scaleToZero.waitedMs),
      total: sum(({ scaleToZero }) => scaleToZero.total),
    },
  }
}

export interface Projection {
  readonly tenants: number
  readonly hosts: number
  readonly pool: bigint
  readonly dedicated: bigint
  readonly scaleToZero: bigint
}

/**
 * The same period with `tenants` that are like the present ones on average. The pool gets the hosts
 * that keep it at `utilization` percent busy, and at least one.
 */
export function projectTenants(
  costs: readonly ModelCost[],
  tenants: number,
  wish: Assumptions & { readonly utilizationPercent: number },
): Projection {
  const names = new Set(costs.flatMap(({ use }) => use.tenant ?? []))
  const now = BigInt(Math.max(1, names.size))
  const totals = sumCosts(costs)
  const grow = (amount: bigint): bigint => divideRounded(amount * BigInt(tenants), now)
  const periodUs = BigInt(wish.endMs - wish.startMs) * 1000n
  const wantedUs = grow(totals.gpuUs + totals.swapUs) * 100n
  const hosts = divideUp(wantedUs, periodUs * BigInt(wish.utilizationPercent)) || 1n
  return {
    tenants,
    hosts: Number(hosts),
    pool: costOfTime(hosts * periodUs, wish.gpuPusdPerHour) + grow(totals.pool.storage),
    dedicated: grow(totals.dedicated.total),
    scaleToZero: grow(totals.scaleToZero.total),
  }
}

/** Percent that `cost` is below `than`, two decimals, rounded down; null where there is nothing. */
export function savedPercent(cost: bigint, than: bigint): number | null {
  if (than === 0n) return null
  const hundredths = ((than - cost) * 10_000n) / than
  return Number(hundredths) / 100
}

/** All the time that the model exists, and more than one machine where its use asks for it. */
function costDedicated(use: ModelUse, existsUs: bigint, gpuPusdPerHour: bigint) {
  const machines = existsUs === 0n ? 1n : divideUp(busyUs(use), existsUs) || 1n
  return { machines: Number(machines), total: costOfTime(machines * existsUs, gpuPusdPerHour) }
}

function costScaleToZero(use: ModelUse, wish: Assumptions) {
  const replay = replayScaleToZero(use.runs, { ...wish, untilMs: wish.endMs })
  const upUs = BigInt(Math.round(replay.upMs)) * 1000n
  const machines = upUs === 0n ? 1n : divideUp(busyUs(use), upUs) || 1n
  return { ...replay, total: costOfTime(machines * upUs, wish.gpuPusdPerHour) }
}

function busyUs({ gpuUs, swapUs }: ModelUse): bigint {
  return gpuUs + swapUs
}
