import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../db/client.ts'
import { createId } from '../../db/ids.ts'
import { recordUsageEvents } from '../../db/queries/usage.ts'
import { usageRollups } from '../../db/schema/usage-rollups.ts'
import { createEvent } from '../../db/test/support/records.ts'
import { createApiKey } from '../auth/api-key.ts'
import { readEdgeConfig } from '../config.ts'
import { createDeps, type Deps } from '../deps.ts'
import { edgeEnvironment } from '../test/support/test-pool.ts'
import { JobRunner } from './job-runner.ts'
import type { Job } from './jobs.ts'

let database: Database
let deps: Deps
let nowMs: number
let logs: string[]

beforeEach(async () => {
  nowMs = 0
  logs = []
  database = await openDatabase('pglite:memory')
  deps = createDeps({
    config: readEdgeConfig(edgeEnvironment(await createApiKey())),
    db: database.db,
    fetch: globalThis.fetch,
    log: (level, message) => logs.push(`${level} ${message}`),
    nowMs: Date.now,
    monotonicMs: () => nowMs,
  })
})

afterEach(async () => {
  await database.close()
})

/** Counts its runs, each of which ends as it is told. */
function createJob(everyMs: number) {
  const runs: { end: (error?: Error) => void }[] = []
  const job: Job = {
    name: 'counted',
    everyMs,
    run: () =>
      new Promise<void>((resolve, reject) => {
        runs.push({ end: (error) => (error ? reject(error) : resolve()) })
      }),
  }
  return { job, runs }
}

const metric = (outcome: string) =>
  `nozzle_edge_job_runs_total{task="counted",outcome="${outcome}"}`
const metricsText = () =>
  deps.metrics.toText({ hostsReady: 0, isDatabaseUp: true, clockOffsetMs: null })

describe('JobRunner', () => {
  it('runs a job at once, then when its time has passed since it ended', async () => {
    const { job, runs } = createJob(5000)
    const runner = new JobRunner(deps, [job])
    const first = runner.runDueJobs()
    nowMs = 3000
    runs[0]?.end()
    await first
    nowMs = 7999
    await runner.runDueJobs()
    expect(runs).toHaveLength(1)
    nowMs = 8000
    void runner.runDueJobs()
    expect(runs).toHaveLength(2)
  })

  it('starts a job anew that was cut off, as a Worker does with what takes too long', async () => {
    const { job, runs } = createJob(1000)
    const runner = new JobRunner(deps, [job])
    void runner.runDueJobs()
    nowMs = 899_999
    void runner.runDueJobs()
    expect(runs).toHaveLength(1)
    nowMs = 900_000
    void runner.runDueJobs()
    expect(runs).toHaveLength(2)
    // The first ends after all: the second runs still.
    runs[0]?.end()
    await new Promise(setImmediate)
    nowMs = 960_000
    void runner.runDueJobs()
    expect(runs).toHaveLength(2)
  })

  it('never starts a job that still runs, and lets it hold up no other', async () => {
    const [slow, quick] = [createJob(1000), createJob(1000)]
    const runner = new JobRunner(deps, [slow.job, quick.job])
    void runner.runDueJobs()
    quick.runs[0]?.end()
    await new Promise(setImmediate)
    nowMs = 60_000
    void runner.runDueJobs()
    expect([slow.runs.length, quick.runs.length]).toEqual([1, 2])
  })

  it('tries a job that failed again, later and later, and says so', async () => {
    const startedMs: number[] = []
    const run = async () => {
      startedMs.push(nowMs)
      throw new Error('the database is away')
    }
    const runner = new JobRunner(deps, [{ name: 'counted', everyMs: 3_600_000, run }])
    for (nowMs = 0; startedMs.length < 7; nowMs += 1000) await runner.runDueJobs()
    const waits = startedMs.slice(1).map((ms, i) => ms - (startedMs[i] ?? 0))
    expect(waits).toEqual([5000, 10_000, 20_000, 40_000, 60_000, 60_000])
    expect(metricsText()).toContain(`${metric('failed')} 7`)
    expect(logs).toEqual(Array(7).fill('warn a job failed: it is tried again'))
  })

  it('starts nothing after it was stopped, which waits for what runs', async () => {
    const { job, runs } = createJob(1000)
    const runner = new JobRunner(deps, [job])
    void runner.runDueJobs()
    let isStopped = false
    const stopping = runner.stop().then(() => {
      isStopped = true
    })
    await new Promise(setImmediate)
    expect(isStopped).toBe(false)
    runs[0]?.end()
    await stopping
    nowMs = 60_000
    await runner.runDueJobs()
    expect(runs).toHaveLength(1)
  })

  it('rolls usage up, and outlives a database that is not there yet', async () => {
    const runner = new JobRunner(deps)
    await runner.runDueJobs()
    expect(new Set(logs)).toEqual(new Set(['warn a job failed: it is tried again']))
    await database.migrate()
    await recordUsageEvents(database.db, [createEvent(createId('ten'))])
    nowMs = 5000
    await runner.runDueJobs()
    expect(await database.db.select().from(usageRollups)).toHaveLength(1)
  })
})
