/**
 * `fair`: what a flood of one tenant does to the first tokens of another, and how evenly tenants
 * that all have requests waiting are served: the host's own scheduler, journal and engine. The
 * victim asks at a steady pace, a quarter of its share; the flooder at ten times its own.
 */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HostError } from '../gpu-host/errors.ts'
import type { Scheduler } from '../gpu-host/scheduler/scheduler.ts'
import { createRequest } from '../gpu-host/test/support/test-host.ts'
import { Random } from '../native/test/support/random.ts'
import { ensureShape, openBenchEngine, type ShapeName } from './lib/base-model.ts'
import { createBenchScheduler } from './lib/bench-scheduler.ts'
import { jain, median, percentile, significant } from './lib/statistics.ts'

export interface FairOptions {
  readonly shape: ShapeName
  readonly threads: number
  /** Each phase once a round. First tokens are of all rounds together, the rest medians. */
  readonly rounds: number
  /** Of the victim's and the flooder's requests. */
  readonly promptTokens: number
}

/** Of a phase. */
const SECONDS = 20
const SEQUENCES = 16
const COMPLETION_TOKENS = 32
/** Of those that are compared by what they drew: prompts are charged too, and would hide it. */
const BACKLOGGED_PROMPT_TOKENS = 4
const TENANTS = 2
/** Of its half of the host. */
const VICTIM_LOAD = 0.25
const FLOOD_LOAD = 10
const FIRST_TEXT_TOKEN = 3
/** No adapters. */
const RAM_BYTES = 1024 * 1024
/** Of tenants that always have requests waiting: in flight, and completion tokens of each. */
const BACKLOGGED = [
  { clients: 40, tokens: 32 },
  { clients: 10, tokens: 64 },
  { clients: 20, tokens: 8 },
  { clients: 40, tokens: 16 },
] as const

/** Fields of the report are explained in this folder's README. */
export async function runFair({ shape, threads, rounds, promptTokens }: FairOptions) {
  const modelPath = await ensureShape(shape)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-bench-'))
  const sizes = { slots: 1, rank: 4, sequences: SEQUENCES, threads }
  const engine = await openBenchEngine(modelPath, sizes)
  const scheduler = await createBenchScheduler(engine, scratch, RAM_BYTES)
  try {
    const load = new FairLoad(scheduler, engine.info.baseModel, promptTokens)
    await load.capacity(SECONDS / 2)
    const all: Round[] = []
    for (let round = 0; round < rounds; round++) {
      all.push(await measureRound(load, SECONDS))
      note(`round ${round + 1} of ${rounds}`)
    }
    const of = (value: (round: Round) => number): number => significant(median(all.map(value)))
    const alone = pool(all.map((round) => round.alone))
    const atShare = pool(all.map((round) => round.atShare))
    const flooded = pool(all.map((round) => round.flooded))
    return {
      shape,
      device: engine.info.device,
      sequences: SEQUENCES,
      rounds,
      prompt_tokens: promptTokens,
      requests_s: of(({ capacity }) => capacity),
      victim_requests: flooded.count,
      victim_ttft_alone_p95: alone.p95,
      victim_ttft_at_share_p95: atShare.p95,
      victim_ttft_flooded_p95: flooded.p95,
      ratio: significant(flooded.p95 / alone.p95),
      ratio_at_share_p95: significant(flooded.p95 / atShare.p95),
      ratio_at_share_p99: significant(flooded.p99 / atShare.p99),
      flood_refused: of(({ refusedShare }) => refusedShare),
      victim_refused: alone.refused + atShare.refused + flooded.refused,
      jain: of((round) => round.jain),
    }
  } finally {
    await scheduler.close()
    await engine.close()
    rmSync(scratch, { recursive: true, force: true })
  }
}

function note(text: string): void {
  process.stderr.write(`fair: ${text}\n`)
}

/** What came of the victim's requests in each phase. */
interface Round {
  readonly capacity: number
  readonly alone: OpenLoopResult
  readonly atShare: OpenLoopResult
  readonly flooded: OpenLoopResult
  readonly refusedShare: number
  readonly jain: number
}

async function measureRound(load: FairLoad, seconds: number): Promise<Round> {
  // The machine may do other things as well: what it can do is measured anew each time.
  const capacity = await load.capacity(seconds / 2)
  const share = capacity / TENANTS
  const run = async (floodLoad: number) => {
    const [victim, flood] = await Promise.all([
      load.openLoop('ten_victim', VICTIM_LOAD * share, seconds),
      load.openLoop('ten_flood', floodLoad * share, seconds),
    ])
    await load.drained()
    return { victim, flood }
  }
  const alone = await run(0)
  const atShare = await run(1)
  const flooded = await run(FLOOD_LOAD)
  const tokens = await load.backlogged(seconds)
  const { flood } = flooded
  return {
    capacity,
    alone: alone.victim,
    atShare: atShare.victim,
    flooded: flooded.victim,
    refusedShare: flood.refused / Math.max(1, flood.asked),
    jain: jain(tokens),
  }
}

function pool(results: readonly OpenLoopResult[]) {
  const ttftMs = results.flatMap((result) => result.ttftMs)
  return {
    count: ttftMs.length,
    p95: significant(percentile(ttftMs, 0.95)),
    p99: significant(percentile(ttftMs, 0.99)),
    refused: results.reduce((sum, { refused }) => sum + refused, 0),
  }
}

interface OpenLoopResult {
  readonly asked: number
  readonly refused: number
  /** Of those let in. */
  readonly ttftMs: readonly number[]
}

/** Asks a scheduler in the name of several tenants. */
class FairLoad {
  readonly #scheduler: Scheduler
  readonly #baseModel: string
  readonly #promptTokens: number
  readonly #random = new Random('fair')
  #open = 0

  constructor(scheduler: Scheduler, baseModel: string, promptTokens: number) {
    this.#scheduler = scheduler
    this.#baseModel = baseModel
    this.#promptTokens = promptTokens
  }

  /** Requests a second that the host serves when it always has work, several tenants' together. */
  async capacity(seconds: number): Promise<number> {
    let ended = 0
    const until = performance.now() + seconds * 1000
    const client = async (number: number): Promise<void> => {
      while (performance.now() < until) {
        await this.#ask(`ten_load_${number}`)
        ended += 1
      }
    }
    await Promise.all(Array.from({ length: SEQUENCES }, (_, number) => client(number)))
    return ended / seconds
  }

  /** Asks at even intervals, whatever becomes of it. */
  async openLoop(tenant: string, perSecond: number, seconds: number): Promise<OpenLoopResult> {
    const ttftMs: number[] = []
    let [asked, refused] = [0, 0]
    const startedAt = performance.now()
    const count = Math.floor(perSecond * seconds)
    const open: Promise<void>[] = []
    for (let index = 0; index < count; index++) {
      const dueMs = startedAt + ((index + this.#random.fraction()) * 1000) / perSecond
      await sleep(Math.max(0, dueMs - performance.now()))
      asked += 1
      open.push(
        this.#ask(tenant).then((answer) => {
          if (answer === null) refused += 1
          else ttftMs.push(answer.ttftMs)
        }),
      )
    }
    await Promise.all(open)
    return { asked, refused, ttftMs }
  }

  /** Tokens that each of several tenants got, all of which always have requests waiting. */
  async backlogged(seconds: number): Promise<number[]> {
    const tokens = BACKLOGGED.map(() => 0)
    const until = performance.now() + seconds * 1000
    const client = async (index: number, length: number): Promise<void> => {
      while (performance.now() < until) {
        const onTokens = (drawn: number): void => {
          if (performance.now() < until) tokens[index] = (tokens[index] ?? 0) + drawn
        }
        const plan = { tokens: length, promptTokens: BACKLOGGED_PROMPT_TOKENS, onTokens }
        const answer = await this.#ask(`ten_full_${index}`, plan)
        // Refused: its line is full, and stays so.
        if (answer === null) await sleep(20)
      }
    }
    const clients = BACKLOGGED.flatMap((plan, index) =>
      Array.from({ length: plan.clients }, () => client(index, plan.tokens)),
    )
    await Promise.all(clients)
    await this.drained()
    return tokens
  }

  async drained(): Promise<void> {
    while (this.#open > 0) await sleep(10)
  }

  /** null = refused. */
  async #ask(
    tenant: string,
    plan: {
      readonly tokens: number
      readonly promptTokens: number
      readonly onTokens: (count: number) => void
    } = { tokens: COMPLETION_TOKENS, promptTokens: this.#promptTokens, onTokens: () => {} },
  ): Promise<{ readonly ttftMs: number } | null> {
    const askedAt = performance.now()
    const request = createRequest({
      request_id: `req_${randomUUID()}`,
      tenant_id: tenant,
      base_model: this.#baseModel,
      // No two alike, so that nothing is found in the prefix cache.
      input: {
        kind: 'tokens',
        tokens: Array.from(
          { length: plan.promptTokens },
          () => FIRST_TEXT_TOKEN + this.#random.integer(90),
        ),
      },
      max_tokens: plan.tokens,
      ignore_eos: true,
    })
    let ttftMs: number | null = null
    this.#open += 1
    try {
      const generation = this.#scheduler.submit(request)
      for (let event = await generation.next(); event !== null; event = await generation.next()) {
        if (event.type === 'error') throw new Error(`a request failed: ${event.code}`)
        if (event.type !== 'chunk') continue
        ttftMs ??= performance.now() - askedAt
        plan.onTokens(event.tokens)
      }
    } catch (error) {
      if (error instanceof HostError && error.code === 'queue_full') return null
      throw error
    } finally {
      this.#open -= 1
    }
    return { ttftMs: ttftMs ?? Number.NaN }
  }
}
