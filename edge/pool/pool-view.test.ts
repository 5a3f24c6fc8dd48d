import { beforeAll, beforeEach, expect, it } from 'vitest'
import { type Database, type Db, openDatabase } from '#db/client.ts'
import { DatabaseError } from '#db/errors.ts'
import { recordHeartbeat } from '#db/queries/hosts.ts'
import { heartbeat } from '#protocol'
import { createHeartbeat } from '../../db/test/support/records.ts'
import { HOST_SEEN_MS_MAX, OUTAGE_GRACE_MS, POOL_VIEW_TTL_MS } from '../limits.ts'
import { EdgeMetrics } from '../metrics.ts'
import { HostHealth } from './host-health.ts'
import { HostPace } from './host-pace.ts'
import { PoolView } from './pool-view.ts'
import { HostProber } from './prober.ts'

let database: Database
let db: Db
let isAway = false
const logs: string[] = []
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
  nowMs += 10 * OUTAGE_GRACE_MS
})

function create(): PoolView {
  const metrics = new EdgeMetrics()
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
