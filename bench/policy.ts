/**
 * `policy`: what leaves a slot and who starts, compared on simulated traffic: eviction policies
 * where there are more slots than sequences, start policies where there are fewer.
 */
import { DemandPolicy, type EvictionPolicy } from '../gpu-host/adapters/eviction-policy.ts'
import { POPULARITIES, type Popularity } from '../native/test/support/popularity.ts'
import { GdsfPolicy, LfuAgingPolicy, LruPolicy } from './lib/eviction-policies.ts'
import { type SimResult, simulate } from './lib/policy-sim.ts'
import { median, percentile, significant } from './lib/statistics.ts'

export interface PolicyOptions {
  /** Seeds; figures are medians over them. */
  readonly rounds: number
}

export const EVICTIONS: Readonly<Record<string, (slots: number) => EvictionPolicy>> = {
  lru: () => new LruPolicy(),
  'lfu-aging': () => new LfuAgingPolicy(),
  gdsf: () => new GdsfPolicy(),
  demand: (slots) => new DemandPolicy(slots),
}
/** Longest wait for a slot before one is drained. */
export const STARTS: Readonly<Record<string, number>> = {
  'in order': 0,
  bounded: 2000,
  'residents first': Number.POSITIVE_INFINITY,
}
const RATIOS = [2, 10, 100]
const COMMON = { sequences: 16, clients: 24, requests: 4000 }
const MANY_SLOTS = 32
const FEW_SLOTS = 8
/** The RAM tier holds ten times what the slots do. */
const RAM_PER_SLOT = 10
const FASHION_REQUESTS = 1000

export interface SimCase {
  readonly seed: number
  readonly popularity: Popularity
  /** Adapters per slot. */
  readonly ratio: number
  /** Which adapters are popular changes from time to time. */
  readonly hasFashions?: boolean
  readonly eviction?: string
  readonly start?: string
}

/** Eviction is a choice where slots outnumber sequences, starting where sequences do. */
export function simulateEviction(one: SimCase): SimResult {
  return run(one, MANY_SLOTS)
}

export function simulateStart(one: SimCase): SimResult {
  return run(one, FEW_SLOTS)
}

function run(one: SimCase, slots: number): SimResult {
  const { seed, popularity, ratio, hasFashions = false } = one
  const policy = EVICTIONS[one.eviction ?? 'demand']?.(slots)
  const slotWaitMaxMs = STARTS[one.start ?? 'bounded']
  if (policy === undefined || slotWaitMaxMs === undefined) throw new RangeError('no such policy')
  return simulate({
    ...COMMON,
    seed,
    popularity,
    slots,
    adapters: ratio * slots,
    ramAdapters: RAM_PER_SLOT * slots,
    policy,
    slotWaitMaxMs,
    shuffleEvery: hasFashions ? FASHION_REQUESTS : 0,
  })
}

/** Fields of the report are explained in this folder's README. */
export function runPolicy({ rounds }: PolicyOptions) {
  const seeds = Array.from({ length: rounds }, (_, index) => index + 1)
  const cases = RATIOS.flatMap((ratio) => POPULARITIES.map((popularity) => ({ popularity, ratio })))
  const fashions = RATIOS.map((ratio) => ({
    popularity: 'zipf' as const,
    ratio,
    hasFashions: true,
  }))
  return {
    ...COMMON,
    rounds,
    eviction: [...cases, ...fashions].flatMap((one) =>
      Object.keys(EVICTIONS).map((eviction) => ({
        slots: MANY_SLOTS,
        ...one,
        eviction,
        ...toRow(seeds.map((seed) => simulateEviction({ ...one, seed, eviction }))),
      })),
    ),
    start: cases.flatMap((one) =>
      Object.keys(STARTS).map((start) => ({
        slots: FEW_SLOTS,
        ...one,
        start,
        ...toRow(seeds.map((seed) => simulateStart({ ...one, seed, start }))),
      })),
    ),
  }
}

function toRow(results: readonly SimResult[]) {
  const of = (value: (result: SimResult) => number): number =>
    significant(median(results.map(value)), 3)
  return {
    tok_s: of((result) => result.tokensPerSecond),
    ttft_p50_ms: of(({ ttftMs }) => median(ttftMs)),
    ttft_p99_ms: of(({ ttftMs }) => percentile(ttftMs, 0.99)),
    blocked_max_ms: of(({ blockedMaxMs }) => blockedMaxMs),
    loads_per_1k: of((result) => (result.loads * 1000) / COMMON.requests),
    reads_per_1k: of((result) => (result.reads * 1000) / COMMON.requests),
  }
}
