/**
 * A pool as an operator runs it: three hosts on the native engine and two edges, each a process of
 * its own, on one PostgreSQL, under requests whose answers are known. Hosts are killed, stopped and
 * cut off, clients leave wherever they can; nobody else may notice, and the books must be exact.
 * NOZZLE_POOL_VISITS says how many clients come and leave, NOZZLE_POOL_REPORT=1 prints figures.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { auditPool } from '../bench/pool/books.ts'
import { leaveAnywhere } from '../bench/pool/leave-points.ts'
import { PoolCluster, type PoolHost } from '../bench/pool/pool-cluster.ts'
import { askAtOnce, PoolLoad } from '../bench/pool/pool-load.ts'
import { createQuestions, type QuestionSet } from '../bench/pool/questions.ts'
import { faultOf, type Reply } from '../bench/pool/visitor.ts'
import { openSockets } from '../bench/pool/vitals.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../db/test/support/postgres-server.ts'
import { readMetrics } from './support/metrics.ts'
import { describeOnEdges, SHARED_UNLESS_CHOSEN } from './support/on-edges.ts'
import { clusterEdges } from './support/pool-home.ts'
import { until } from './support/until.ts'

const BINARIES = findPostgres()
const SEED = Number(process.env.NOZZLE_POOL_SEED ?? 1)
const VISITS = Number(process.env.NOZZLE_POOL_VISITS ?? 500)
const CLIENTS = 24
const KILLED_MS = 1000
const STEP_MS = 10
const SLOW_STEP_MS = 60
/** A stream's error follows its host's death within 2 s; a busy machine gets three times that. */
const NOTICE_MS_MAX = 6000
/** A host that hangs is out within 5 s; whoever asked it waits no longer. Three times that, too. */
const HUNG_MS_MAX = 15_000
const HUNG_MS = 6000
/** A host that was silent for so long gets no requests: longer than that without one edge. */
const EDGE_AWAY_MS = 6000
/** Edges ask a host that was away, and comes back, within a second or two. */
const BACK_MS = 3000
const CROWD = 500
/** A host that misses heartbeats for so long is doubted, and another is asked for the adapter. */
const BEATS_MISSED_MS = 2000
/** Room for a crowd of one tenant, which may wait with as much as it leaves to others. */
const QUEUE_DEPTH = 2 * CROWD + 200
const LOSS_SHARE = 0.3
const NOTHING = { fetches: 0, loads: 0 }
const ONCE = { fetches: 1, loads: 1 }
const VISIT_MS_MAX = 200
/** Sockets that an edge may hold beside those it had: connections to the database come and go. */
const SOCKETS_SLACK = 12

const directory = mkdtempSync(join(tmpdir(), 'nozzle-pool-'))
let server: PostgresServer
let set: QuestionSet
let cluster: PoolCluster

interface Seen {
  /** When the fault began; by the monotonic clock. */
  readonly faultMs: number
  readonly after: readonly Reply[]
  readonly broken: readonly Reply[]
}

/** How long clients waited for the pool. */
function toFigures({ faultMs, after, broken }: Seen) {
  const waits = broken.map(({ endMs, lastTokenMs }) => endMs - Math.max(faultMs, lastTokenMs ?? 0))
  const firsts = after.map(({ startMs, firstTokenMs }) => (firstTokenMs ?? startMs) - startMs)
  return {
    answers: after.length,
    broken_streams: broken.length,
    broken_notice_ms_max: Math.round(Math.max(0, ...waits)),
    first_token_ms_max: Math.round(Math.max(0, ...firsts)),
  }
}

function report(figures: object): void {
  if (process.env.NOZZLE_POOL_REPORT === undefined) return
  process.stdout.write(`${expect.getState().currentTestName}: ${JSON.stringify(figures)}\n`)
}

describeOnEdges('a pool of three hosts and two edges', SHARED_UNLESS_CHOSEN, (edge) => {
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
      ...(await clusterEdges(edge, join(directory, 'worker'))),
      ...{ edges: 2, hosts: 3, tenants: 2, seed: SEED },
      ...{ sequences: 2048, queueDepth: QUEUE_DEPTH, stepMs: STEP_MS },
    })
  })
  // What a test that failed leaves behind is not the next one's.
  afterEach(() => cluster.heal())
  afterAll(async () => {
    await cluster?.stop()
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  const faultsOf = (replies: readonly Reply[]) => replies.map(faultOf).filter((it) => it !== null)
  async function expectExactBooks(replies: readonly Reply[], more: object = {}): Promise<void> {
    const books = await auditPool(cluster, server.url, replies)
    const findings = books.findings.filter(({ kind }) => kind !== 'overrun')
    expect({ ...books, findings }).toMatchObject({ findings: [], lost: 0, double: 0, ...more })
  }
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

  /** Calls that edges gave up since the host did not say in time that it lives. */
  async function givenUp(): Promise<number> {
    const all = await Promise.all(cluster.edges.map(readMetrics))
    const name = 'nozzle_edge_host_attempts_total'
    return all.reduce((sum, edge) => sum + edge.valueWith(name, 'outcome="unreachable"'), 0)
  }

  /** What each host fetched and loaded for a crowd that finds the pool without the adapter. */
  async function crowd(options: { readonly adapter: number; readonly completionTokens: number }) {
    const before = cluster.hosts.map(({ tiers }) => ({ ...tiers }))
    const givenUpBefore = await givenUp()
    const startMs = performance.now()
    const replies = await askAtOnce(cluster, set, { count: CROWD, ...options })
    const tookMs = Math.round(performance.now() - startMs)
    const did = cluster.hosts.map(({ tiers }, i) => ({
      fetches: tiers.fetches - (before[i]?.fetches ?? 0),
      loads: tiers.loads - (before[i]?.loads ?? 0),
    }))
    const lost = (await givenUp()) - givenUpBefore
    const [loads, fetches] = [did.map((it) => it.loads), did.map((it) => it.fetches)]
    report({ loads, fetches, lost, tookMs })
    return { replies, did, isSpeaking: lost === 0 && tookMs < BEATS_MISSED_MS }
  }

  it('fetches and loads an adapter once for five hundred who ask for it at once', async () => {
    for (const host of cluster.hosts) await host.restartForgetting()
    await cluster.heal()
    await sleep(BACK_MS)
    const { replies, did, isSpeaking } = await crowd({ adapter: 0, completionTokens: 2 })
    expect(faultsOf(replies)).toEqual([])
    expect(replies).toHaveLength(CROWD)
    // Exactly one, unless a machine so busy that the host cannot speak made it look hung or dead.
    const loaded = did.filter(({ loads, fetches }) => loads + fetches > 0)
    expect(loaded).toEqual(isSpeaking ? [ONCE] : loaded.map(() => ONCE))
    expect(loaded).toContainEqual(ONCE)
    await expectExactBooks(replies)
  })

  it('loads it at no host twice when the crowd stays longer', async () => {
    const { replies, did } = await crowd({ adapter: 1, completionTokens: 24 })
    expect(faultsOf(replies)).toEqual([])
    for (const each of did) expect(each).toEqual(each.fetches === 0 ? NOTHING : ONCE)
    expect(did).toContainEqual(ONCE)
    await expectExactBooks(replies)
  })

  it('answers each request with its own reply while clients leave at every point', {
    timeout: 180_000 + VISITS * VISIT_MS_MAX,
  }, async () => {
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
    await expectExactBooks(load.replies)
  })

  const repliesSince = (load: PoolLoad, ms: number) =>
    load.replies.filter(({ startMs }) => startMs > ms)

  /** Waits for answers, not for time: how fast they come is the machine's. */
  async function untilAnswered(load: PoolLoad, sinceMs: number): Promise<void> {
    await until('as many answers as clients', () => {
      return repliesSince(load, sinceMs).length > CLIENTS || null
    })
  }

  /** What clients saw of a fault of the busiest host, which lasts until all have their answer. */
  async function during(fault: (host: PoolHost) => unknown, ms: number) {
    // Streams of a second and more, so that some are under way at any time.
    for (const host of cluster.hosts) host.pace(SLOW_STEP_MS)
    const load = new PoolLoad(cluster, set, { clients: CLIENTS, seed: SEED, streamShare: 0.7 })
    await untilAnswered(load, 0)
    const host = await busiestHost()
    const faultMs = performance.now()
    await fault(host)
    await sleep(ms)
    await untilAnswered(load, faultMs)
    await load.stop()
    for (const { pace } of cluster.hosts) pace(STEP_MS)
    const after = load.replies.filter(({ endMs }) => endMs > faultMs)
    const broken = after.filter((reply) => faultOf(reply) !== null)
    report(toFigures({ faultMs, after, broken }))
    return { faultMs, replies: load.replies, after, broken }
  }

  /** Whoever has a token hears of the loss soon; everybody else is served elsewhere. */
  function expectOnlyBrokenStreams({ faultMs, broken }: Pick<Seen, 'faultMs' | 'broken'>): void {
    for (const reply of broken) {
      expect(reply, faultOf(reply) ?? '').toMatchObject({ status: 200, errorCode: 'host_failed' })
      expect(reply.tokens).toBeGreaterThan(0)
      expect(reply.isForeign).toBe(false)
      const silentMs = reply.endMs - Math.max(faultMs, reply.lastTokenMs ?? 0)
      expect(silentMs).toBeLessThan(NOTICE_MS_MAX)
    }
  }

  it('loses one host to SIGKILL, and only streams of that host hear of it', async () => {
    const seen = await during(({ process }) => process.kill(), KILLED_MS)
    expectOnlyBrokenStreams(seen)
    expect(seen.broken.length).toBeGreaterThan(0)
    expect(seen.broken.every(({ visit }) => visit.isStream)).toBe(true)
    await cluster.heal()
    await expectExactBooks(seen.replies, { overruns: 0 })
  })

  it.each([
    ['stopped (SIGSTOP)', ({ process }: PoolHost) => process.signal('SIGSTOP')],
    ['behind half-open connections', ({ proxy }: PoolHost) => proxy.set({ kind: 'stall' })],
  ])('serves elsewhere what a host was asked that is %s', async (_, fault) => {
    const seen = await during(fault, HUNG_MS)
    expectOnlyBrokenStreams(seen)
    for (const { startMs, endMs } of seen.after) {
      expect(endMs - Math.max(startMs, seen.faultMs)).toBeLessThan(HUNG_MS_MAX)
    }
    // It wakes, and says what it did for those who were answered elsewhere.
    await cluster.heal()
    await expectExactBooks(seen.replies)
  })

  it('takes a slow line for no dead host, and loses streams alone to a lossy one', async () => {
    const [slow, lossy] = cluster.hosts
    const load = new PoolLoad(cluster, set, { clients: CLIENTS, seed: SEED, streamShare: 0.7 })
    slow?.proxy.set({ kind: 'delay', ms: 10 * STEP_MS })
    await untilAnswered(load, 0)
    expect(faultsOf(load.replies)).toEqual([])
    const faultMs = performance.now()
    lossy?.proxy.set({ kind: 'loss', share: LOSS_SHARE })
    await untilAnswered(load, faultMs)
    await load.stop()
    const after = load.replies.filter(({ endMs }) => endMs > faultMs)
    const broken = after.filter((reply) => faultOf(reply) !== null)
    report(toFigures({ faultMs, after, broken }))
    expectOnlyBrokenStreams({ faultMs, broken })
    expect(broken.length).toBeLessThan(after.length / 4)
    await cluster.heal()
    await expectExactBooks(load.replies)
  })

  it('goes on through one edge, with all hosts, when the other is killed', async () => {
    const [dying, other] = cluster.edges
    if (dying === undefined || other === undefined) throw new Error('the pool has two edges')
    const load = new PoolLoad(cluster, set, {
      ...{ clients: CLIENTS, seed: SEED, streamShare: 0.7 },
      edges: [other],
    })
    const killedMs = performance.now()
    await dying.process.kill()
    await sleep(EDGE_AWAY_MS)
    await untilAnswered(load, killedMs)
    expect(await cluster.readyHosts(other)).toBe(cluster.hosts.length)
    await load.stop()
    expect(faultsOf(load.replies)).toEqual([])
    await cluster.heal()
    await expectExactBooks(load.replies, { overruns: 0 })
  })
})
