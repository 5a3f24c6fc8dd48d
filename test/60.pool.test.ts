/**
 * A pool as an operator runs it: three hosts on the native engine and two edges, each a process of
 * its own, on one PostgreSQL, under requests whose answers are known. Hosts are killed, stopped and
 * cut off, clients leave wherever they can; nobody else may notice, and the books must be exact.
 * `npm run soak -- --pool` runs the same for longer.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { auditPool } from '../bench/pool/books.ts'
import { leaveAnywhere } from '../bench/pool/leave-points.ts'
import { PoolCluster, type PoolHost } from '../bench/pool/pool-cluster.ts'
import { PoolLoad } from '../bench/pool/pool-load.ts'
import { createQuestions, type QuestionSet } from '../bench/pool/questions.ts'
import { faultOf, type Reply } from '../bench/pool/visitor.ts'
import { openSockets } from '../bench/pool/vitals.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../db/test/support/postgres-server.ts'
import { readMetrics } from './support/metrics.ts'
import { until } from './support/until.ts'

const BINARIES = findPostgres()
const SEED = Number(process.env.NOZZLE_POOL_SEED ?? 1)
const VISITS = Number(process.env.NOZZLE_POOL_VISITS ?? 500)
const CLIENTS = 24
const CALM_MS = 2000
const STEP_MS = 10
const SLOW_STEP_MS = 60
/** A stream's error follows its host's death within 2 s; a busy machine gets three times that. */
const NOTICE_MS_MAX = 6000
/** Sockets that an edge may hold beside those it had: connections to the database come and go. */
const SOCKETS_SLACK = 12

const directory = mkdtempSync(join(tmpdir(), 'nozzle-pool-'))
let server: PostgresServer
let set: QuestionSet
let cluster: PoolCluster

describe.skipIf(BINARIES === null)('a pool of three hosts and two edges', () => {
  beforeAll(async () => {
    if (BINARIES === null) return
    server = await startPostgres(BINARIES)
    set = await createQuestions({
      ...{ directory, seed: SEED },
      adapters: 8,
      questions: 128,
      completionTokens: 24,
    })
    cluster = await PoolCluster.start(server.url, set, {
      ...{ edges: 2, hosts: 3, tenants: 2, seed: SEED },
      ...{ sequences: 16, queueDepth: 600, stepMs: STEP_MS },
    })
  })
  afterAll(async () => {
    await cluster?.stop()
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  const faultsOf = (replies: readonly Reply[]) => replies.map(faultOf).filter((it) => it !== null)
  const books = (replies: readonly Reply[]) => auditPool(cluster, server.url, replies)
  /** The host with most to lose. */
  async function busiestHost(): Promise<PoolHost> {
    const running = await Promise.all(
      cluster.hosts.map(async (host) => {
        const metrics = await readMetrics(host)
        return { host, sequences: metrics.value('nozzle_sequences_running') }
      }),
    )
    return running.reduce((a, b) => (b.sequences > a.sequences ? b : a)).host
  }

  async function untilIdle(): Promise<void> {
    const zeroes = async (of: { readonly url: string }, names: readonly string[]) => {
      const metrics = await readMetrics(of).catch(() => null)
      return metrics !== null && names.every((name) => metrics.value(name) === 0)
    }
    const ofHost = ['nozzle_sequences_running', 'nozzle_queue_depth', 'nozzle_slots_in_use']
    await until('no request, no sequence, no slot left', async () => {
      const idle = await Promise.all([
        ...cluster.edges.map((edge) => zeroes(edge, ['nozzle_edge_streams_open'])),
        ...cluster.hosts.map((host) => zeroes(host, ofHost)),
      ])
      return idle.every((it) => it) || null
    })
  }

  it('answers each request with its own reply while clients leave at every point of theirs', async () => {
    const processes = [...cluster.edges, ...cluster.hosts].map(({ process }) => process)
    const before = processes.map(({ pid }) => openSockets(pid))
    const load = new PoolLoad(cluster, set, {
      ...{ clients: CLIENTS, seed: SEED, streamShare: 0.8, requests: VISITS },
      // Fewer than clients, so that tenants follow each other on the same connections.
      connections: CLIENTS / 3,
      leaveOf: leaveAnywhere,
    })
    await load.done
    await load.stop()
    expect(faultsOf(load.replies)).toEqual([])
    const left = load.replies.filter(({ hasLeft }) => hasLeft)
    for (const at of ['body', 'sent', 'headers', 'token', 'done'] as const) {
      expect(load.replies.filter(({ visit }) => visit.leave?.at === at).length, at).toBeGreaterThan(
        VISITS / 20,
      )
    }
    expect(left.length).toBeGreaterThan(VISITS / 3)
    expect(load.replies.filter(({ isWhole }) => isWhole).length).toBeGreaterThan(VISITS / 4)
    await untilIdle()
    await until('connections are closed again', () => {
      const now = processes.map(({ pid }) => openSockets(pid))
      return now.every((count, i) => count <= (before[i] ?? 0) + SOCKETS_SLACK) || null
    })
    expect(await books(load.replies)).toMatchObject({ lost: 0, double: 0 })
  })

  it('loses one host to SIGKILL, and only streams of that host hear of it', async () => {
    // Streams of a second and more, so that some are under way at any time.
    for (const host of cluster.hosts) host.pace(SLOW_STEP_MS)
    const load = new PoolLoad(cluster, set, { clients: CLIENTS, seed: SEED, streamShare: 0.7 })
    await sleep(CALM_MS)
    const { process: busiest } = await busiestHost()
    const killedMs = performance.now()
    await busiest.kill()
    await sleep(CALM_MS)
    await load.stop()
    for (const host of cluster.hosts) host.pace(STEP_MS)
    const broken = load.replies.filter((reply) => faultOf(reply) !== null)
    for (const reply of broken) {
      expect(reply, faultOf(reply) ?? '').toMatchObject({ status: 200, errorCode: 'host_failed' })
      expect(reply.tokens).toBeGreaterThan(0)
      expect(reply.isForeign).toBe(false)
      expect(reply.endMs - killedMs).toBeLessThan(NOTICE_MS_MAX)
    }
    expect(broken.length).toBeGreaterThan(0)
    const after = load.replies.filter(({ startMs }) => startMs > killedMs)
    expect(after.length).toBeGreaterThan(CLIENTS)
    expect(faultsOf(after)).toEqual([])
    await cluster.heal()
    expect(await books(load.replies)).toMatchObject({ lost: 0, double: 0, overruns: 0 })
  })
})
