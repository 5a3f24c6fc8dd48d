/**
 * Child process of the tests: a host under a supervisor, on the fake engine and real adapter tiers.
 */

import { AdapterCache } from '../../adapters/adapter-cache.ts'
import { PeftIntake } from '../../adapters/adapter-intake.ts'
import { DiskTier } from '../../adapters/disk-tier.ts'
import { openStore } from '../../adapters/open-store.ts'
import { RamTier } from '../../adapters/ram-tier.ts'
import { VECTOR_BASE } from '../../adapters/test/support/vectors.ts'
import { systemClock } from '../../clock.ts'
import { readConfig } from '../../config.ts'
import { Host } from '../../host.ts'
import { withHostId } from '../../host-id.ts'
import { runHostProcess } from '../../host-process.ts'
import { createLog } from '../../log.ts'
import { serveNative } from '../../serving-engine.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { FakeEngine } from './fake-engine.ts'

const config = withHostId(readConfig())
const log = createLog((line) => process.stderr.write(line), systemClock.nowMs)
const engine = new FakeEngine({
  info: VECTOR_BASE,
  limits: { contextLength: 100_000 },
  delay: () => new Promise((resolve) => setTimeout(resolve, 2)),
})
const { store, staging } = openStore(config.store, { clock: systemClock, log, fetch })
const disk = await DiskTier.open({ directory: config.diskTierDirectory, bytesMax: 1e9, log })
const ram = new RamTier(1e9)
const intake = new PeftIntake({ engine, store, disk, log })
const host = new Host({
  settings: config,
  engine: serveNative(engine),
  adapters: new AdapterCache({ engine, store, disk, ram, clock: systemClock, log }),
  intake,
  ...(staging && { direct: { staging, intake } }),
  clock: systemClock,
  log,
  fetch,
  version: 'test',
  randomSeed: () => 1,
  metrics: createMetrics({ withProcess: true }),
})
await runHostProcess({ host, log, drainGraceMs: config.drainGraceMs })
