/**
 * `churn`: thousands of registered adapters over a few slots, through the host's own scheduler,
 * adapter cache, journal and engine, against the same load on few adapters. Every reply is checked
 * to come from its own adapter.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Scheduler } from '../gpu-host/scheduler/scheduler.ts'
import type { NativeEngine } from '../native/index.ts'
import { type Popularity, pickAdapter } from '../native/test/support/popularity.ts'
import { Random } from '../native/test/support/random.ts'
import { createFleet, type Fleet } from './lib/adapter-fleet.ts'
import { type BenchDevice, ensureShape, openBenchEngine, type ShapeName } from './lib/base-model.ts'
import { createBenchScheduler } from './lib/bench-scheduler.ts'
import { type Answer, type LoopResult, runClosedLoop } from './lib/closed-loop.ts'
import { median, percentile, significant } from './lib/statistics.ts'

export interface ChurnOptions {
  readonly shape: ShapeName
  readonly rank: number
  readonly threads: number
  readonly rounds: number
  readonly adapters: number
  readonly slots: number
  readonly clients: number
  readonly popularity: Popularity
  /** Of the run over all adapters, all rounds together. */
  readonly requests: number
  readonly on?: BenchDevice | undefined
}

const PROMPT_TOKENS = 16
const COMPLETION_TOKENS = 24
/** The run that S-LoRA, and with it our target, compares thousands of adapters with. */
const FEW_ADAPTERS = 100
/** Of all adapters, the share that the RAM tier can hold; the rest come from disk. */
const RAM_SHARE = 1 / 4
/** Every request is served, however busy the machine. */
const WAIT_MS_MAX = 60_000
/** Requests before each measured run, to settle what is resident. */
const WARM_UP_SHARE = 1 / 5

const RUNS = ['resident', 'double', 'few', 'all'] as const
type Run = (typeof RUNS)[number]
type Round = Record<Run, LoopResult>

/** Fields of the report are explained in this folder's README. */
export async function runChurn(options: ChurnOptions) {
  const { shape, slots, clients, rank, adapters } = options
  const modelPath = await ensureShape(shape)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-bench-'))
  const { threads, on } = options
  const sizes = { slots, rank, sequences: clients, threads, on }
  const engine = await openBenchEngine(modelPath, sizes)
  try {
    note(`making ${adapters} adapters, each with a reference of its own`)
    const fleet = await createFleet(engine, {
      directory: join(scratch, 'disk'),
      count: adapters,
      rank,
      promptTokens: PROMPT_TOKENS,
      completionTokens: COMPLETION_TOKENS,
    })
    const ramAdapters = Math.max(FEW_ADAPTERS, Math.ceil(adapters * RAM_SHARE))
    const ramBytes = ramAdapters * fleet.payloadBytes
    const scheduler = await createBenchScheduler(engine, scratch, ramBytes, WAIT_MS_MAX)
    const rounds = await measureRounds(scheduler, fleet, engine, options).finally(() =>
      scheduler.close(),
    )
    return {
      shape,
      device: engine.info.device,
      rank,
      adapter_bytes: fleet.payloadBytes,
      adapters,
      slots,
      ram_adapters: ramAdapters,
      popularity: options.popularity,
      clients,
      prompt_tokens: PROMPT_TOKENS,
      completion_tokens: COMPLETION_TOKENS,
      rounds: rounds.length,
      ...toReport(rounds),
      wrong_adapter: countWrong(rounds),
      wrong_adapter_would_show: significant(fleet.detectable),
    }
  } finally {
    await engine.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

function note(text: string): void {
  process.stderr.write(`churn: ${text}\n`)
}

/** All runs take turns, so that what else the machine does falls on all alike. */
async function measureRounds(
  scheduler: Scheduler,
  fleet: Fleet,
  engine: NativeEngine,
  options: ChurnOptions,
): Promise<Round[]> {
  const { slots, adapters, clients, popularity } = options
  const counts: Record<Run, number> = {
    resident: slots,
    double: 2 * slots,
    few: FEW_ADAPTERS,
    all: adapters,
  }
  const requests = Math.ceil(options.requests / options.rounds)
  const loop = { clients, completionTokens: COMPLETION_TOKENS, baseModel: engine.info.baseModel }
  const random = new Random('churn', popularity)
  let index = 0
  const draw = (run: Run, count: number) =>
    Array.from({ length: count }, () => {
      const number = pickAdapter(popularity, index++, Math.min(adapters, counts[run]), random)
      const adapter = fleet.adapters[number - 1]
      if (adapter === undefined) throw new Error(`there is no adapter ${number}`)
      return adapter
    })
  const measure = async (run: Run): Promise<LoopResult> => {
    await runClosedLoop(scheduler, draw(run, Math.ceil(requests * WARM_UP_SHARE)), loop)
    return runClosedLoop(scheduler, draw(run, requests), loop)
  }
  const rounds: Round[] = []
  for (let round = 0; round < options.rounds; round++) {
    rounds.push({
      resident: await measure('resident'),
      double: await measure('double'),
      few: await measure('few'),
      all: await measure('all'),
    })
    const speeds = RUNS.map((run) => `${run} ${requestsPerSecond(rounds[round]?.[run])}`)
    note(`round ${round + 1} of ${options.rounds}, requests per second: ${speeds.join(', ')}`)
  }
  return rounds
}

/** Times are percentiles over all rounds; ratios are medians of each round's own ratio. */
function toReport(rounds: readonly Round[]) {
  const answers = rounds.flatMap(({ all }) => all.answers)
  const hit = percentilesOf(answers, 'slot')
  const ram = percentilesOf(answers, 'ram')
  const disk = percentilesOf(answers, 'disk')
  const ratio = (of: (round: Round) => number): number => significant(median(rounds.map(of)))
  const ttft = (result: LoopResult): number => median(result.answers.map(({ ttftMs }) => ttftMs))
  return {
    requests: answers.length,
    requests_s: ratio(({ all }) => requestsPerSecond(all)),
    requests_s_resident: ratio(({ resident }) => requestsPerSecond(resident)),
    throughput_vs_resident: ratio(
      ({ all, resident }) => requestsPerSecond(all) / requestsPerSecond(resident),
    ),
    throughput_vs_100: ratio(({ all, few }) => requestsPerSecond(all) / requestsPerSecond(few)),
    share: {
      slot: significant(hit.count / answers.length),
      ram: significant(ram.count / answers.length),
      disk: significant(disk.count / answers.length),
    },
    ttft_ms: {
      hit_p50: hit.p50,
      hit_p99: hit.p99,
      ram_p50: ram.p50,
      ram_p99: ram.p99,
      disk_p50: disk.p50,
      disk_p99: disk.p99,
    },
    added_ms: {
      ram_p50: difference(ram.p50, hit.p50),
      ram_p99: difference(ram.p99, hit.p99),
      disk_p50: difference(disk.p50, hit.p50),
      disk_p99: difference(disk.p99, hit.p99),
    },
    ttft_resident_ms: ratio(({ resident }) => ttft(resident)),
    ttft_2x_slots_ms: ratio(({ double }) => ttft(double)),
    ttft_2x_slots_ratio: ratio(({ double, resident }) => ttft(double) / ttft(resident)),
  }
}

function requestsPerSecond(result: LoopResult | undefined): number {
  return result === undefined ? 0 : significant(result.answers.length / result.seconds)
}

/** null where no request of the run met its adapter there. */
function percentilesOf(answers: readonly Answer[], source: Answer['source']) {
  const times = answers.filter((answer) => answer.source === source).map(({ ttftMs }) => ttftMs)
  if (times.length === 0) return { count: 0, p50: null, p99: null }
  return {
    count: times.length,
    p50: significant(median(times)),
    p99: significant(percentile(times, 0.99)),
  }
}

function difference(value: number | null, base: number | null): number | null {
  return value === null || base === null ? null : significant(value - base)
}

/** Of every reply in every run. */
function countWrong(rounds: readonly Round[]): number {
  return rounds.reduce((sum, round) => {
    const answers = RUNS.flatMap((run) => round[run].answers)
    return sum + answers.filter(({ isRight }) => !isRight).length
  }, 0)
}
