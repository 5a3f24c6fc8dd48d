/**
 * The simulation held against a real pool: three host processes on the native engine and two edges,
 * on one machine. What a step and a load take there is measured first, on the very pool; then the
 * same requests go at the same times through the pool and through the simulation.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findPostgres, startPostgres } from '../../db/test/support/postgres-server.ts'
import { HOST_ATTEMPTS_MAX } from '../../edge/limits.ts'
import { median, percentile, significant } from '../lib/statistics.ts'
import { PoolCluster } from '../pool/pool-cluster.ts'
import { createQuestions, type QuestionSet } from '../pool/questions.ts'
import { type Reply, visit } from '../pool/visitor.ts'
import { type CostModel, capacityRps } from './cost-model.ts'
import { OUTCOMES, simulateFleet } from './fleet-sim.ts'
import { createRouter } from './routers.ts'
import { drawTraffic, type Traffic } from './traffic.ts'

export interface CheckOptions {
  readonly seed: number
  readonly requests: number
  /** Of the pool's capacity. */
  readonly load: number
}

interface Run {
  readonly ttftMs: readonly number[]
  readonly loads: number
  readonly refused: number
  readonly seconds: number
}

const HOSTS = 3
const EDGES = 2
const ADAPTERS = 60
const SEQUENCES = 8
/** Of a host's sequences, for tenants that are not there: all requests are one tenant's. */
const KEPT_BACK = 1
/** Of questions.ts. */
const PROMPT_TOKENS = 8
const COMPLETION_TOKENS = 24
/** Three hosts share two cores with edges and clients: a step is as long as a larger model's. */
const STEP_MS = 40
const WARM_UP_SHARE = 1 / 4
const ALONE = 12
const COLD = 6
const SILENCE_MS = 60_000
/** More than there are adapters. */
const ALL = 1000
/** Of an adapter of a few kilobytes; clients cannot tell it from the rest of a load. */
const COPY_MS = 0.5

/** Fields of the report are explained in bench/README.md. */
export async function checkFleet({ seed, requests, load }: CheckOptions) {
  const installed = findPostgres()
  if (installed === null) throw new Error('this check needs initdb and postgres in PATH')
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-fleet-'))
  const server = await startPostgres(installed)
  let cluster: PoolCluster | null = null
  try {
    const set = await createQuestions({
      ...{ directory, seed, adapters: ADAPTERS, questions: ADAPTERS },
      completionTokens: COMPLETION_TOKENS,
    })
    cluster = await PoolCluster.start(server.url, set, {
      ...{ edges: EDGES, hosts: HOSTS, tenants: 1, sequences: SEQUENCES, seed },
      ...{ queueDepth: 200, stepMs: STEP_MS },
    })
    const pool = new RealPool(cluster, set)
    const costs = await calibrate(pool)
    const lengths = {
      ...{ promptMedian: PROMPT_TOKENS, promptMax: PROMPT_TOKENS, sigma: 0 },
      ...{ completionMedian: COMPLETION_TOKENS, completionMax: COMPLETION_TOKENS },
    }
    const mean = { prompt: PROMPT_TOKENS, completion: COMPLETION_TOKENS }
    const rps = load * HOSTS * capacityRps(costs, mean)
    const traffic = drawTraffic({
      ...{ seed, arrivals: 'zipf', adapters: ADAPTERS, requests, rps, lengths },
    })
    const warmUp = Math.floor(requests * WARM_UP_SHARE)
    const measured = await pool.run(traffic, warmUp)
    pool.close()
    const predicted = predict(traffic, warmUp, costs, seed)
    return {
      hosts: HOSTS,
      edges: EDGES,
      requests,
      load,
      seed,
      ...compare(predicted, measured),
      costs,
    }
  } finally {
    await cluster?.stop()
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

class RealPool {
  readonly #cluster: PoolCluster
  readonly #set: QuestionSet
  readonly #agent = new Agent({ keepAlive: true })

  constructor(cluster: PoolCluster, set: QuestionSet) {
    this.#cluster = cluster
    this.#set = set
  }

  /** Throws for a request that begins and is not served whole; one may be refused. */
  async ask(number: number, adapter: number): Promise<Reply> {
    const edge = this.#cluster.edges[number % EDGES]
    const question = this.#set.questions[adapter]
    const model = this.#set.adapters[adapter]?.name
    if (edge === undefined || question === undefined || model === undefined) {
      throw new RangeError(`there is no adapter ${adapter}`)
    }
    const reply = await visit({
      ...{ number, edgeUrl: edge.url, tenant: this.#cluster.tenant(0), model, question },
      ...{ completionTokens: COMPLETION_TOKENS, isStream: true, leave: null, agent: this.#agent },
      silenceMs: SILENCE_MS,
    })
    if (!reply.isWhole && reply.tokens > 0) throw new Error(`request ${number} broke off`)
    return reply
  }

  get loads(): number {
    return this.#cluster.hosts.reduce((sum, { tiers }) => sum + tiers.loads, 0)
  }

  /** Each request at its time, whatever became of those before. */
  async run({ arrivedMs, adapter }: Traffic, warmUp: number): Promise<Run> {
    const startMs = performance.now()
    const asked: Promise<Reply>[] = []
    let loadsBefore = 0
    for (const [i, atMs] of arrivedMs.entries()) {
      await sleep(Math.max(0, startMs + atMs - performance.now()))
      if (i === warmUp) loadsBefore = this.loads
      asked.push(this.ask(i, adapter[i] ?? 0))
    }
    const replies = await Promise.all(asked)
    const kept = replies.slice(warmUp).filter(({ isWhole }) => isWhole)
    const endMs = Math.max(...kept.map(({ endMs }) => endMs))
    return {
      ttftMs: kept.map(ttftOf),
      loads: this.loads - loadsBefore,
      refused: replies.length - warmUp - kept.length,
      seconds: (endMs - startMs - (arrivedMs[warmUp] ?? 0)) / 1000,
    }
  }

  close(): void {
    this.#agent.destroy()
  }
}

/** What a step takes with one row and with all, and what a load adds to a first token. */
async function calibrate(pool: RealPool): Promise<CostModel> {
  const alone: Reply[] = []
  for (let i = 0; i < ALONE; i++) alone.push(await pool.ask(i, 0))
  // The first brings the adapter.
  alone.shift()
  const cold: Reply[] = []
  for (let i = 0; i < COLD; i++) cold.push(await pool.ask(i, ADAPTERS - 1 - i))
  const full = await Promise.all(
    Array.from({ length: HOSTS * (SEQUENCES - KEPT_BACK) }, (_, i) => pool.ask(i, i)),
  )
  const stepMs = median(alone.map(tpotOf))
  const rowMs = Math.max(0, (median(full.map(tpotOf)) - stepMs) / (SEQUENCES - KEPT_BACK - 1))
  const ttftMs = median(alone.map(ttftOf))
  const loadMs = Math.max(0, median(cold.map(ttftOf)) - ttftMs)
  return {
    step: {
      baseMs: stepMs - rowMs,
      ...{ decodeRowMs: rowMs, promptRowMs: 0, adapterRowMs: 0, distinctMs: 0 },
    },
    load: { copyMs: COPY_MS, diskMs: loadMs, storeMs: loadMs, copyDrag: 0 },
    host: {
      ...{ slots: SEQUENCES, sequences: SEQUENCES, ramAdapters: ALL, diskAdapters: ALL },
      ...{ rowsMax: 256, prefillRowsMax: 256 },
    },
    pathMs: Math.max(0, ttftMs - stepMs),
    sources: { all: 'measured on this pool, before the run' },
  }
}

function predict(traffic: Traffic, warmUp: number, costs: CostModel, seed: number): Run {
  const { slots } = costs.host
  const router = createRouter('nozzle', { seed, slots, attempts: HOST_ATTEMPTS_MAX })
  const { ttftMs, totalMs, outcomes, measured } = simulateFleet({
    ...{ seed, hosts: HOSTS, edges: EDGES, adapters: ADAPTERS, tenants: 1 },
    ...{ costs, traffic, router, faults: [], warmUp },
  })
  const served = [...traffic.arrivedMs.keys()].filter(
    (i) => i >= warmUp && outcomes[i] === OUTCOMES.served,
  )
  const ends = served.map((i) => (traffic.arrivedMs[i] ?? 0) + (totalMs[i] ?? 0))
  return {
    ttftMs: served.map((i) => ttftMs[i] ?? Number.NaN),
    loads: measured.loads,
    refused: ttftMs.length - warmUp - served.length,
    seconds: (Math.max(...ends) - measured.fromMs) / 1000,
  }
}

function compare(predicted: Run, measured: Run) {
  const figures = {
    ttft_p50: ({ ttftMs }: Run) => percentile(ttftMs, 0.5),
    ttft_p99: ({ ttftMs }: Run) => percentile(ttftMs, 0.99),
    loads_per_1k: ({ loads, ttftMs }: Run) => (loads * 1000) / ttftMs.length,
    requests_s: ({ seconds, ttftMs }: Run) => ttftMs.length / seconds,
  }
  const rows = Object.entries(figures).map(([name, of]) => {
    const [ours, real] = [of(predicted), of(measured)]
    const row = { predicted: significant(ours), measured: significant(real) }
    return [name, { ...row, error: significant(ours / real - 1, 3) }] as const
  })
  const refused = { predicted: predicted.refused, measured: measured.refused }
  return { ...Object.fromEntries(rows), refused }
}

function ttftOf({ startMs, firstTokenMs }: Reply): number {
  return (firstTokenMs ?? Number.NaN) - startMs
}

function tpotOf({ firstTokenMs, lastTokenMs, tokens }: Reply): number {
  return ((lastTokenMs ?? Number.NaN) - (firstTokenMs ?? Number.NaN)) / (tokens - 1)
}
