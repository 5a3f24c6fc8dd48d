/**
 * Child process of the tests: a real host process, on the fake engine, no adapters. A step takes
 * 2 ms, or the milliseconds that the first argument says.
 */

import { systemClock } from '../../clock.ts'
import { readConfig } from '../../config.ts'
import { Host } from '../../host.ts'
import { withHostId } from '../../host-id.ts'
import { runHostProcess } from '../../host-process.ts'
import { createLog } from '../../log.ts'
import { serveNative } from '../../serving-engine.ts'
import { createMetrics } from '../../telemetry/metrics.ts'
import { FakeEngine } from './fake-engine.ts'
import { ScriptedAdapters } from './scripted-adapters.ts'

const stepMs = Number(process.argv[2] ?? 2)
const config = withHostId(readConfig())
const log = createLog((line) => process.stderr.write(line), systemClock.nowMs)
const engine = new FakeEngine({
  limits: { contextLength: 100_000 },
  delay: () => new Promise((resolve) => setTimeout(resolve, stepMs)),
})
const host = new Host({
  settings: config,
  engine: serveNative(engine),
  adapters: new ScriptedAdapters(engine, systemClock, new Map()),
  intake: { install: () => Promise.reject(new Error('no intake')) },
  clock: systemClock,
  log,
  fetch,
  version: 'test',
  randomSeed: () => 1,
  metrics: createMetrics({ withProcess: true }),
})
await runHostProcess({ host, log, drainGraceMs: config.drainGraceMs })
