/**
 * `load`: many streams at once through edges and hosts for a while, every answer known. Is a chunk
 * lost, doubled or out of order, does anybody's memory grow, and do journals and ledger agree with
 * what the clients were given?
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { findPostgres, startPostgres } from '../db/test/support/postgres-server.ts'
import type { CrashingProcess } from './fault/crashing-process.ts'
import { type MemorySample, slopeMibPerMinute } from './lib/memory-slope.ts'
import { percentile, significant } from './lib/statistics.ts'
import { auditPool } from './pool/books.ts'
import type { LiveMemory } from './pool/live-memory.ts'
import { PoolCluster, type PoolSizes } from './pool/pool-cluster.ts'
import { PoolLoad } from './pool/pool-load.ts'
import { createQuestions } from './pool/questions.ts'
import { faultOf, type Reply } from './pool/visitor.ts'
import { rssBytes } from './pool/vitals.ts'

export interface LoadOptions extends Pick<PoolSizes, 'edgeEntry' | 'edgeEnv'> {
  readonly streams: number
  readonly seconds: number
  readonly seed: number
}

const EDGES = 2
const HOSTS = 3
const ADAPTERS = 8
const TENANTS = 4
const COMPLETION_TOKENS = 24
/** Of all streams together: what two cores carry through every process and the clients. */
const CHUNKS_PER_SECOND = 1500
const STEP_MS_MIN = 10
/** Of the streams' even share; where more come, they wait. */
const SEQUENCES_FACTOR = 1.5
/** Of the memory, over the whole time: each takes a collection of garbage in every process. */
const SAMPLES = 40
const FINDINGS_SHOWN_MAX = 20

/** Fields of the report are explained in this folder's README. */
export async function runLoad({ streams, seconds, seed, ...edges }: LoadOptions) {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('this bench needs initdb and postgres in PATH')
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-load-'))
  const server = await startPostgres(binaries)
  let cluster: PoolCluster | null = null
  try {
    note(`finding ${streams} questions, each with an answer of its own`)
    const set = await createQuestions({
      ...{ directory, seed, adapters: ADAPTERS, questions: streams },
      completionTokens: COMPLETION_TOKENS,
    })
    cluster = await PoolCluster.start(server.url, set, {
      ...{ ...edges, edges: EDGES, hosts: HOSTS, tenants: TENANTS, isDirect: true, seed },
      sequences: Math.ceil((streams / HOSTS) * SEQUENCES_FACTOR),
      queueDepth: streams,
      stepMs: Math.max(STEP_MS_MIN, Math.round((1000 * streams) / CHUNKS_PER_SECOND)),
    })
    note(`${streams} streams for ${seconds} s`)
    const memory = new MemoryWatch(cluster)
    const load = new PoolLoad(cluster, set, { clients: streams, seed, streamShare: 1 })
    await memory.watch(seconds)
    await load.stop()
    const books = await auditPool(cluster, server.url, load.replies)
    return {
      ...{ streams, seconds, edges: EDGES, hosts: HOSTS },
      ...toChunkReport(load.replies),
      journal_tokens: books.journalTokens,
      ledger_tokens: books.ledgerTokens,
      lost: books.lost,
      double: books.double,
      ...memory.report(),
      findings: [
        ...load.replies.map(faultOf).filter((fault) => fault !== null),
        ...books.findings.map(({ what }) => what),
      ].slice(0, FINDINGS_SHOWN_MAX),
    }
  } finally {
    await cluster?.stop()
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

export type LoadReport = Awaited<ReturnType<typeof runLoad>>

/** Whether all that was sent arrived once, in order, and was charged. Memory is for the reader. */
export function isExact(report: LoadReport): boolean {
  const none = ['lost_chunks', 'doubled_chunks', 'misplaced_chunks', 'wrong_answers'] as const
  return (
    none.every((field) => report[field] === 0) &&
    report.errors + report.lost + report.double === 0 &&
    report.journal_tokens === report.ledger_tokens &&
    report.journal_tokens === report.client_tokens
  )
}

function note(text: string): void {
  process.stderr.write(`load: ${text}\n`)
}

function toChunkReport(replies: readonly Reply[]) {
  const sum = (of: (reply: Reply) => number) => replies.reduce((all, it) => all + of(it), 0)
  const whole = replies.filter(({ errorCode }) => errorCode === null)
  const due = ({ visit, tokens }: Reply) => visit.completionTokens - tokens
  const firstMs = whole.map(({ firstTokenMs, startMs }) => (firstTokenMs ?? Number.NaN) - startMs)
  return {
    requests: replies.length,
    client_tokens: sum(({ tokens }) => tokens),
    lost_chunks: whole.reduce((all, reply) => all + Math.max(0, due(reply)), 0),
    doubled_chunks: sum((reply) => Math.max(0, -due(reply))),
    misplaced_chunks: sum(({ misplaced }) => misplaced),
    wrong_answers: whole.filter(({ text, visit }) => text !== visit.question.text).length,
    errors: replies.length - whole.length,
    ttft_ms: {
      p50: Math.round(percentile(firstMs, 0.5)),
      p99: Math.round(percentile(firstMs, 0.99)),
    },
  }
}

interface Watched {
  readonly process: CrashingProcess
  readonly memory: LiveMemory
}

/** The memory of every edge and host, sampled side by side. */
class MemoryWatch {
  readonly #watched: ReadonlyMap<string, Watched>
  readonly #resident = new Map<string, MemorySample[]>()
  readonly #live = new Map<string, MemorySample[]>()

  constructor({ edges, hosts }: PoolCluster) {
    this.#watched = new Map<string, Watched>([
      ...edges.map((edge, i) => [`edge_${i}`, edge] as const),
      ...hosts.map((host, i) => [`host_${i}`, host] as const),
    ])
  }

  async watch(seconds: number): Promise<void> {
    const endMs = performance.now() + seconds * 1000
    for (let ms = performance.now(); ms < endMs; ms = performance.now()) {
      for (const [name, { process, memory }] of this.#watched) {
        add(this.#live, name, await memory.of(process))
        add(this.#resident, name, rssBytes(process.pid))
      }
      await sleep((seconds * 1000) / SAMPLES)
    }
  }

  report() {
    const slopes = each(this.#live, (samples) => significant(slopeMibPerMinute(samples)))
    return {
      live_slope_mb_min: significant(Math.max(...Object.values(slopes))),
      live_slopes_mb_min: slopes,
      live_mb: each(this.#live, newest),
      rss_slopes_mb_min: each(this.#resident, (samples) => significant(slopeMibPerMinute(samples))),
      rss_mb: each(this.#resident, newest),
    }
  }
}

function add(samples: Map<string, MemorySample[]>, name: string, bytes: number): void {
  samples.set(name, [...(samples.get(name) ?? []), { atMs: performance.now(), bytes }])
}

function each(
  all: ReadonlyMap<string, readonly MemorySample[]>,
  of: (samples: readonly MemorySample[]) => number,
): Record<string, number> {
  return Object.fromEntries([...all].map(([name, samples]) => [name, of(samples)]))
}

function newest(samples: readonly MemorySample[]): number {
  return Math.round((samples.at(-1)?.bytes ?? 0) / 1024 ** 2)
}
