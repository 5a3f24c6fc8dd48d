/**
 * The requests of a run, drawn before it, so that every policy meets the very same ones. Adapters
 * are numbered by popularity, 0 first.
 *
 * `zipf`: Poisson arrivals; adapter k is asked for with weight 1/(k + 1).
 * `bursty`: as functions of a cloud are called (Shahrad et al., "Serverless in the Wild", USENIX
 * ATC 2020): rates spread over many orders of magnitude, 18.6% of the applications taking 99.6% of
 * the calls, which a log-normal of RATE_SIGMA gives; and calls that come in bunches. Each adapter
 * is on for a quarter of its own period, and what it is asked for comes in clusters.
 */
import { Random } from '../../native/test/support/random.ts'

export const ARRIVALS = ['zipf', 'bursty'] as const
export type Arrivals = (typeof ARRIVALS)[number]

export interface TrafficOptions {
  readonly seed: number
  readonly arrivals: Arrivals
  readonly adapters: number
  readonly requests: number
  /** Mean requests per second of the whole pool. */
  readonly rps: number
  readonly lengths: LengthRange
}

/** Log-normal lengths, in tokens. */
export interface LengthRange {
  readonly promptMedian: number
  readonly promptMax: number
  readonly completionMedian: number
  readonly completionMax: number
  /** Spread of both, of the logarithm; 0 = all alike. */
  readonly sigma: number
}

/** Request i, in order of time: its adapter, and its tokens. */
export interface Traffic {
  readonly arrivedMs: Float64Array
  readonly adapter: Int32Array
  readonly promptTokens: Int32Array
  readonly completionTokens: Int32Array
}

/** Φ(3.54 − 0.893) = 0.996, where 18.6% of a normal distribution lie above 0.893. */
const RATE_SIGMA = 3.54
const CLUSTER_MEAN = 4
const CLUSTER_GAP_MS = 200
const ON_SHARE = 1 / 4
const PERIOD_MS_MIN = 8_000
const PERIOD_MS_SPREAD = 52_000

export function drawTraffic(options: TrafficOptions): Traffic {
  const random = new Random('traffic', options.arrivals, options.seed)
  const arrivals =
    options.arrivals === 'zipf' ? drawPoisson(options, random) : drawBursty(options, random)
  const { promptMedian, promptMax, completionMedian, completionMax, sigma } = options.lengths
  return {
    ...arrivals,
    promptTokens: drawLengths(options.requests, promptMedian, promptMax, sigma, random),
    completionTokens: drawLengths(options.requests, completionMedian, completionMax, sigma, random),
  }
}

/** Mean of what `drawLengths` draws, by drawing: the cut at `max` has no short formula. */
export function meanTokens(lengths: LengthRange): { prompt: number; completion: number } {
  const random = new Random('mean lengths')
  const mean = (median: number, max: number): number => {
    const drawn = drawLengths(10_000, median, max, lengths.sigma, random)
    return drawn.reduce((sum, tokens) => sum + tokens, 0) / drawn.length
  }
  return {
    prompt: mean(lengths.promptMedian, lengths.promptMax),
    completion: mean(lengths.completionMedian, lengths.completionMax),
  }
}

function drawPoisson({ requests, rps, adapters }: TrafficOptions, random: Random) {
  const weights = new WeightedChoice(Float64Array.from({ length: adapters }, (_, i) => 1 / (i + 1)))
  const arrivedMs = new Float64Array(requests)
  const adapter = new Int32Array(requests)
  let nowMs = 0
  for (let i = 0; i < requests; i++) {
    nowMs += exponential(1000 / rps, random)
    arrivedMs[i] = nowMs
    adapter[i] = weights.pick(random)
  }
  return { arrivedMs, adapter }
}

function drawBursty({ requests, rps, adapters }: TrafficOptions, random: Random) {
  const weights = new WeightedChoice(drawRates(adapters, random))
  const periods = Float64Array.from(
    { length: adapters },
    () => PERIOD_MS_MIN + random.fraction() * PERIOD_MS_SPREAD,
  )
  const phases = Float64Array.from(periods, (period) => random.fraction() * period)
  const isOn = (which: number, atMs: number): boolean => {
    const period = periods[which] ?? 1
    return (atMs + (phases[which] ?? 0)) % period < ON_SHARE * period
  }
  const drawn: { atMs: number; which: number }[] = []
  let clusterMs = 0
  while (drawn.length < requests) {
    clusterMs += exponential((1000 * CLUSTER_MEAN) / rps, random)
    let which = weights.pick(random)
    while (!isOn(which, clusterMs)) which = weights.pick(random)
    let atMs = clusterMs
    do {
      drawn.push({ atMs, which })
      atMs += exponential(CLUSTER_GAP_MS, random)
    } while (random.fraction() > 1 / CLUSTER_MEAN)
  }
  drawn.sort((a, b) => a.atMs - b.atMs)
  const kept = drawn.slice(0, requests)
  return {
    arrivedMs: Float64Array.from(kept, ({ atMs }) => atMs),
    adapter: Int32Array.from(kept, ({ which }) => which),
  }
}

/** Highest first, since adapters are numbered so. */
function drawRates(count: number, random: Random): Float64Array {
  const rates = Float64Array.from({ length: count }, () => Math.exp(RATE_SIGMA * normal(random)))
  return rates.sort().reverse()
}

function drawLengths(count: number, median: number, max: number, sigma: number, random: Random) {
  return Int32Array.from({ length: count }, () => {
    const drawn = Math.round(median * Math.exp(sigma * normal(random)))
    return Math.max(1, Math.min(max, drawn))
  })
}

function exponential(mean: number, random: Random): number {
  return -mean * Math.log(1 - random.fraction())
}

/** Box and Muller's. */
function normal(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()))
  return radius * Math.cos(2 * Math.PI * random.fraction())
}

/** Draws indices in proportion to their weights. */
class WeightedChoice {
  readonly #sums: Float64Array

  constructor(weights: Float64Array) {
    let sum = 0
    this.#sums = weights.map((weight) => {
      sum += weight
      return sum
    })
  }

  pick(random: Random): number {
    const wanted = random.fraction() * (this.#sums.at(-1) ?? 0)
    let low = 0
    let high = this.#sums.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#sums[middle] ?? 0) > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
