/**
 * `rolling`: hosts drained and started anew, one after the other, under streams whose every answer
 * is known. Is one cut, does a drain take longer than its grace, and do the books agree? By turns
 * the operator drains a host, or its process gets SIGTERM.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { findPostgres, startPostgres } from '../db/test/support/postgres-server.ts'
import { percentile } from './lib/statistics.ts'
import { auditPool } from './pool/books.ts'
import { PoolCluster, type PoolHost } from './pool/pool-cluster.ts'
import { PoolLoad } from './pool/pool-load.ts'
import { createQuestions } from './pool/questions.ts'
import { faultOf } from './pool/visitor.ts'

export interface RollingOptions {
  readonly drains: number
  /** Streams that run all the time. */
  readonly streams: number
  readonly seed: number
  /** Of each host, so that a busy machine's forecast refuses nobody; absent = its own. */
  readonly waitTargetMs?: number
}

const EDGES = 2
const HOSTS = 3
const ADAPTERS = 4
const TENANTS = 2
const COMPLETION_TOKENS = 24
/** Of all streams together: what two cores carry beside hosts that start. */
const CHUNKS_PER_SECOND = 1000
const STEP_MS_MIN = 20
/** One host carries them all: while one drains, the one before it is still trusted with less. */
const SEQUENCES_FACTOR = 3
const POLL_MS = 50
/** What a host has for its drain; see PoolSizes. */
const DRAIN_GRACE_MS = 120_000
const FINDINGS_SHOWN_MAX = 20

const hostState = z.object({
  status: z.string(),
  load: z.object({ sequences_running: z.int(), queue_depth: z.int() }),
})

/** Fields of the report are explained in this folder's README. */
export async function runRolling({ drains, streams, seed, waitTargetMs }: RollingOptions) {
  const binaries = findPostgres()
  if (binaries === null) throw new Error('this bench needs initdb and postgres in PATH')
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-rolling-'))
  const server = await startPostgres(binaries)
  let cluster: PoolCluster | null = null
  try {
    const set = await createQuestions({
      ...{ directory, seed, adapters: ADAPTERS, questions: streams },
      completionTokens: COMPLETION_TOKENS,
    })
    cluster = await PoolCluster.start(server.url, set, {
      ...{ edges: EDGES, hosts: HOSTS, tenants: TENANTS, seed, drainGraceMs: DRAIN_GRACE_MS },
      sequences: Math.ceil((streams / HOSTS) * SEQUENCES_FACTOR),
      queueDepth: streams,
      ...(waitTargetMs !== undefined && { waitTargetMs }),
      stepMs: Math.max(STEP_MS_MIN, Math.round((1000 * streams) / CHUNKS_PER_SECOND)),
    })
    const load = new PoolLoad(cluster, set, { clients: streams, seed, streamShare: 1 })
    const drainMs: number[] = []
    for (let i = 0; i < drains; i++) {
      const host = cluster.hosts[i % HOSTS]
      if (host === undefined) throw new Error('a pool has hosts')
      drainMs.push(await (i % 2 === 0 ? restartByCommand(cluster, host) : restartBySignal(host)))
      await cluster.heal()
      if (i % 10 === 9) process.stderr.write(`rolling: ${i + 1} of ${drains} drains\n`)
    }
    await load.stop()
    const books = await auditPool(cluster, server.url, load.replies)
    const faults = load.replies.map(faultOf).filter((fault) => fault !== null)
    return {
      ...{ drains, streams, edges: EDGES, hosts: HOSTS, requests: load.replies.length },
      cut: load.replies.filter(({ errorCode }) => errorCode !== null).length,
      faults: faults.length,
      drain_ms: {
        p50: Math.round(percentile(drainMs, 0.5)),
        max: Math.round(Math.max(...drainMs)),
      },
      grace_ms: DRAIN_GRACE_MS,
      journal_tokens: books.journalTokens,
      ledger_tokens: books.ledgerTokens,
      lost: books.lost,
      double: books.double,
      findings: [...faults, ...books.findings.map(({ what }) => what)].slice(0, FINDINGS_SHOWN_MAX),
    }
  } finally {
    await cluster?.stop()
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

export type RollingReport = Awaited<ReturnType<typeof runRolling>>

/** Whether nobody noticed the drains, and all was charged once. */
export function isUnnoticed(report: RollingReport): boolean {
  const { cut, faults, lost, double, drain_ms, grace_ms, journal_tokens, ledger_tokens } = report
  const isWrong = cut + faults + lost + double > 0 || journal_tokens !== ledger_tokens
  return !isWrong && drain_ms.max < grace_ms
}

/** The host's own drain; resolves to its milliseconds. */
async function restartBySignal({ process }: PoolHost): Promise<number> {
  const startMs = performance.now()
  await process.end()
  return performance.now() - startMs
}

/** Drained, ended when idle, started anew, where it is drained still, and resumed. */
async function restartByCommand(cluster: PoolCluster, host: PoolHost): Promise<number> {
  const path = `/v1/hosts/${host.id}`
  const state = async () => hostState.parse(await cluster.admin('GET', path))
  const startMs = performance.now()
  await cluster.admin('POST', `${path}/drain`)
  const deadlineMs = startMs + DRAIN_GRACE_MS
  for (let { status, load } = await state(); ; { status, load } = await state()) {
    if (status === 'draining' && load.sequences_running + load.queue_depth === 0) break
    if (performance.now() > deadlineMs) break
    await sleep(POLL_MS)
  }
  const drainMs = performance.now() - startMs
  await host.process.end()
  await host.process.startSupervised()
  let status = 'silent'
  for (; status === 'silent'; { status } = await state()) await sleep(POLL_MS)
  if (status !== 'draining') throw new Error(`a drained host came back as ${status}`)
  await cluster.admin('POST', `${path}/resume`)
  return drainMs
}
