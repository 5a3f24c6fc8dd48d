/** A scheduler on a real engine, journal and adapter tiers, without HTTP or an edge. */
import { join } from 'node:path'
import { AdapterCache } from '../../gpu-host/adapters/adapter-cache.ts'
import { DiskTier } from '../../gpu-host/adapters/disk-tier.ts'
import { RamTier } from '../../gpu-host/adapters/ram-tier.ts'
import { DirectoryStore } from '../../gpu-host/adapters/store-tier.ts'
import { systemClock } from '../../gpu-host/clock.ts'
import { readConfig } from '../../gpu-host/config.ts'
import { Journal } from '../../gpu-host/journal/journal.ts'
import { Scheduler } from '../../gpu-host/scheduler/scheduler.ts'
import { createMetrics } from '../../gpu-host/telemetry/metrics.ts'
import type { NativeEngine } from '../../native/index.ts'

/**
 * As gpu-host/index.ts puts it together, with the host's own defaults for its limits.
 * @param waitTargetMs absent = the host refuses whom it could not serve in time, as it does.
 */
export async function createBenchScheduler(
  engine: NativeEngine,
  scratch: string,
  ramBytesMax: number,
  waitTargetMs?: number,
): Promise<Scheduler> {
  const { scheduler: limits, journal: journalLimits } = readConfig({
    NOZZLE_POOL_SECRET: 'of no use: nothing listens in a benchmark',
    NOZZLE_BASE_MODEL_PATH: 'open already',
    NOZZLE_BASE_MODEL_NAME: engine.info.baseModel,
  })
  const log = () => {}
  const adapters = await createBenchCache(engine, scratch, ramBytesMax)
  const journal = new Journal({
    ...journalLimits,
    directory: join(scratch, 'journal'),
    hostId: 'hst_bench',
    clock: systemClock,
    log,
    shippedSegment: 0,
  })
  // Nobody collects: every segment may go when it is full.
  journal.setShippedSegment(Number.MAX_SAFE_INTEGER)
  return new Scheduler({
    engine,
    adapters,
    journal,
    metrics: createMetrics({ withProcess: false }),
    clock: systemClock,
    log,
    limits: { ...limits, waitTargetMs: waitTargetMs ?? limits.waitTargetMs },
    renderChat: () => '',
    hostId: 'hst_bench',
    randomSeed: () => 0,
  })
}

/** Packs are looked for in `disk` of the scratch folder. */
export async function createBenchCache(
  engine: NativeEngine,
  scratch: string,
  ramBytesMax: number,
): Promise<AdapterCache> {
  const log = () => {}
  const directory = join(scratch, 'disk')
  const disk = await DiskTier.open({ directory, bytesMax: Number.MAX_SAFE_INTEGER, log })
  disk.warm()
  return new AdapterCache({
    engine,
    store: new DirectoryStore(join(scratch, 'store')),
    disk,
    ram: new RamTier(ramBytesMax, engine),
    clock: systemClock,
    log,
  })
}
