import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Database, type Db, openDatabase } from '#db/client.ts'
import { DatabaseError } from '#db/errors.ts'
import { recordHeartbeat } from '#db/queries/hosts.ts'
import { hosts } from '#db/schema/hosts.ts'
import { heartbeat } from '#protocol'
import { createHeartbeat } from '../../db/test/support/records.ts'
import {
  HOST_SEEN_MS_MAX,
  HOST_SILENT_MS,
  OUTAGE_GRACE_MS,
  POOL_UPKEEP_MS,
  POOL_VIEW_AGE_MS_MAX,
  POOL_VIEW_TTL_MS,
} from '../limits.ts'
import { EdgeMetrics } from '../metrics.ts'
import { HostHealth } from './host-health.ts'
import { HostPace } from './host-pace.ts'
import { PoolView } from './pool-view.ts'
import { HostProber } from './prober.ts'

let database: Database
let db: Db
let isAway = false
const logs: string[] = []
let metrics = new EdgeMetrics()
let nowMs = Date.UTC(2026, 0)
beforeAll(async () => {
  database = await openDatabase('pglite:memory')
  await database.migrate()
  db = new Proxy(database.db, {
    get(target, name, receiver) {
      if (isAway) throw new DatabaseError('database_unavailable', 'away')
      return Reflect.get(target, name, receiver)
    },
  })
  return () => database.close()
})
beforeEach(() => {
  isAway = false
  metrics = new EdgeMetrics()
  nowMs += 10 * OUTAGE_GRACE_MS
})

/** As /metrics has it; 0 = not counted yet. */
function counted(name: string): number {
  const text = metrics.toText({ hostsReady: 0, isDatabaseUp: true, clockOffsetMs: null })
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(name))
      ?.split(' ')[1] ?? 0,
  )
}
const refusals = (reason: string) =>
  counted(`nozzle_edge_snapshot_refusals_total{reason="${reason}"}`)
const unanswered = () => counted('nozzle_edge_host_probes_total{outcome="dead"}')

function create(): PoolView {
  const clock = () => nowMs
  const health = new HostHealth({ nowMs: clock, random: Math.random })
  const prober = new HostProber({ health, metrics, fetch: dead, nowMs: clock, probeMs: 100 })
  const log = (_level: string, message: string) => logs.push(message)
  const trust = { health, pace: new HostPace(clock), prober, metrics, log }
  return new PoolView({ db, nowMs: clock, monotonicMs: clock, downForMs: () => null, ...trust })
}
const dead = () => Promise.reject(new Error('nobody answers'))

/** As another edge hears it. */
async function beatElsewhere(): Promise<string> {
  const report = createHeartbeat()
  await recordHeartbeat(database.db, report, new Date(nowMs))
  return report.host_id
}

const idsOf = async (view: PoolView) => (await view.ready()).map(({ hostId }) => hostId)

it('forgets a silent host while the database says so', async () => {
  const view = create()
  const hostId = await beatElsewhere()
  expect(await idsOf(view)).toEqual([hostId])
  nowMs += HOST_SEEN_MS_MAX + 1
  expect(await idsOf(view)).toEqual([])
})

it('keeps the hosts of other edges for 15 minutes of an outage, to be asked last', async () => {
  const view = create()
  const elsewhere = await beatElsewhere()
  await view.ready()
  isAway = true
  nowMs += POOL_VIEW_TTL_MS
  await view.ready()
  nowMs += OUTAGE_GRACE_MS - 1
  const here = heartbeat.parse(createHeartbeat())
  view.observe(here)
  const suspects = (await view.ready()).map(({ hostId, isSuspect }) => [hostId, isSuspect])
  expect(Object.fromEntries(suspects)).toEqual({ [elsewhere]: true, [here.host_id]: false })
  nowMs += 1
  expect(await idsOf(view)).toEqual([here.host_id])
})

it('drops a host that fell silent before the outage', async () => {
  const view = create()
  const silent = await beatElsewhere()
  await view.ready()
  nowMs += HOST_SEEN_MS_MAX + 1
  const here = heartbeat.parse(createHeartbeat())
  view.observe(here)
  isAway = true
  expect(await idsOf(view)).toEqual([here.host_id])
  expect(silent).not.toBe(here.host_id)
})

describe('the snapshot', () => {
  it('is read beside a request that can go by the last one, and waited for when that is old', async () => {
    const view = create()
    const first = await beatElsewhere()
    await view.ready()
    nowMs += POOL_VIEW_TTL_MS
    const second = await beatElsewhere()
    const reads: Promise<void>[] = []
    const ids = async () =>
      (await view.ready((work) => reads.push(work))).map((host) => host.hostId)
    expect(await ids()).toEqual([first])
    await Promise.all(reads)
    expect((await ids()).toSorted()).toEqual([first, second].toSorted())
    expect(view.snapshotAgeMs()).toBe(0)
    nowMs += POOL_VIEW_AGE_MS_MAX
    const third = await beatElsewhere()
    expect(await ids()).toContain(third)
  })

  it('is read in time by a Node process, without any request', async () => {
    const view = create()
    const seen: number[] = []
    for (let i = 0; i < 40; i++) {
      nowMs += POOL_UPKEEP_MS
      await beatElsewhere()
      view.upkeep()
      await vi.waitFor(() => expect(view.snapshotAgeMs()).toBeLessThan(POOL_VIEW_TTL_MS))
      seen.push(view.snapshotAgeMs())
    }
    expect(Math.max(...seen)).toBeLessThanOrEqual(POOL_VIEW_TTL_MS)
    expect(view.known().length).toBeGreaterThan(0)
  })

  it('that is refused is logged once while it lasts, and counted each time', async () => {
    const view = create()
    const hostId = await beatElsewhere()
    await view.ready()
    logs.length = 0
    const before = refusals('empty')
    await database.db.delete(hosts)
    for (let i = 0; i < 3; i++) {
      nowMs += POOL_VIEW_TTL_MS
      expect(await idsOf(view)).toEqual([hostId])
    }
    expect([refusals('empty') - before, logs.length]).toEqual([3, 1])
    nowMs += HOST_SEEN_MS_MAX
    expect(await idsOf(view)).toEqual([])
  })

  it('of an edge that hears nothing itself is no older than two seconds, with any number of edges', async () => {
    const [here, there] = [create(), create()]
    const report = heartbeat.parse(createHeartbeat())
    let worstMs = 0
    for (let beat = 1; beat < 20; beat++) {
      const said = { ...report, beat, uptime_ms: beat * 1000 }
      here.observe(said)
      await recordHeartbeat(database.db, said, new Date(nowMs))
      for (let i = 0; i < 4; i++) {
        there.upkeep()
        await vi.waitFor(() => expect(there.snapshotAgeMs()).toBeLessThan(POOL_VIEW_TTL_MS))
        const known = there.known()[0]?.beat ?? beat
        worstMs = Math.max(worstMs, (beat - known) * 1000 + i * POOL_UPKEEP_MS)
        nowMs += POOL_UPKEEP_MS
      }
    }
    expect(worstMs).toBeLessThanOrEqual(POOL_VIEW_AGE_MS_MAX)
  })
})

describe('hosts that fell silent', () => {
  it('are asked last after two beats, asked how they are, and out when nobody answers', async () => {
    const view = create()
    const reports = [1, 2, 3].map(() => heartbeat.parse(createHeartbeat()))
    for (const report of reports) view.observe(report)
    await view.ready()
    const [silent, ...others] = reports.map(({ host_id }) => host_id)
    nowMs += HOST_SILENT_MS + 1
    for (const report of reports.slice(1)) view.observe({ ...report, beat: 2 })
    const suspects = (await view.ready()).filter((host) => host.isSuspect)
    expect(suspects.map((host) => host.hostId)).toEqual([silent])
    view.upkeep()
    await vi.waitFor(async () => expect((await idsOf(view)).toSorted()).toEqual(others.toSorted()))
  })

  it('all at once are all used: it may be this edge that is cut off', async () => {
    const view = create()
    const reports = [1, 2, 3, 4].map(() => heartbeat.parse(createHeartbeat()))
    for (const report of reports) view.observe(report)
    await view.ready()
    nowMs += HOST_SILENT_MS + 1
    view.upkeep()
    await vi.waitFor(() => expect(unanswered()).toBe(4))
    expect(await idsOf(view)).toHaveLength(4)
  })
})
