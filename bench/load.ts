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
import { type MemorySample, rssSlopeMibPerMinute } from './lib/rss-slope.ts'
import { percentile, significant } from './lib/statistics.ts'
import { auditPool } from './pool/books.ts'
import { PoolCluster } from './pool/pool-cluster.ts'
import { PoolLoad } from './pool/pool-load.ts'
import { createQuestions } from './pool/questions.ts'
import { faultOf, type Reply } from './pool/visitor.ts'
import { rssBytes } from './pool/vitals.ts'

export interface LoadOptions {
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
const SAMPLE_MS = 500
const FINDINGS_SHOWN_MAX = 20

/** Fields of the report are explained in this folder's README. */
export async function runLoad({ streams, seconds, seed }: LoadOptions) {
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
      ...{ edges: EDGES, hosts: HOSTS, tenants: TENANTS, isDirect: true, seed },
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
      rss_slope_mb_min: significant(Math.max(...Object.values(memory.slopes()))),
      rss_slopes_mb_min: memory.slopes(),
      rss_mb: memory.newest(),
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

/** The memory of every edge and host, sampled side by side. */
class MemoryWatch {
  readonly #pids: ReadonlyMap<string, number>
  readonly #samples = new Map<string, MemorySample[]>()

  constructor({ edges, hosts }: PoolCluster) {
    this.#pids = new Map([
      ...edges.map(({ process }, i) => [`edge_${i}`, process.pid] as const),
      ...hosts.map(({ process }, i) => [`host_${i}`, process.pid] as const),
    ])
  }

  async watch(seconds: number): Promise<void> {
    const endMs = performance.now() + seconds * 1000
    while (performance.now() < endMs) {
      for (const [name, pid] of this.#pids) {
        const samples = this.#samples.get(name) ?? []
        samples.push({ atMs: performance.now(), bytes: rssBytes(pid) })
        this.#samples.set(name, samples)
      }
      await sleep(SAMPLE_MS)
    }
  }

  slopes(): Record<string, number> {
    return this.#each((samples) => significant(rssSlopeMibPerMinute(samples)))
  }

  newest(): Record<string, number> {
    return this.#each((samples) => Math.round((samples.at(-1)?.bytes ?? 0) / 1024 ** 2))
  }

  #each(of: (samples: readonly MemorySample[]) => number): Record<string, number> {
    return Object.fromEntries([...this.#samples].map(([name, samples]) => [name, of(samples)]))
  }
}
