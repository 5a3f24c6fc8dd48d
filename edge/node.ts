/**
 * Entry of the edge on Node: environment → database with its migrations → server. SIGTERM, SIGINT
 * and the end of the parent that spawned it with a channel all stop it in order.
 */
import { openDatabase } from '#db/client.ts'
import { createApp } from './app.ts'
import { readEdgeConfig } from './config.ts'
import { createDeps } from './deps.ts'
import { errorText } from './errors.ts'
import { JobRunner } from './jobs/job-runner.ts'
import { CLOCK_RETRY_MS, POOL_UPKEEP_MS } from './limits.ts'
import { createConsoleLog } from './log.ts'
import { readAssets } from './node-assets.ts'
import { nodeDigests } from './node-digests.ts'
import { startNodeServer } from './node-server.ts'
import { createNodeTransport } from './node-transport.ts'

const STREAM_GRACE_MS = 30_000
/** How often to look which jobs are due. */
const JOB_TICK_MS = 1000
/** Beyond the grace, for the database. */
const EXIT_SLACK_MS = 10_000
const EXIT_CONFIGURATION = 2
/** Also of a configuration that says no level. */
const logFailure = createConsoleLog('error')

/** By error code; what an operator can do about it. */
const START_FIXES: Readonly<Record<string, string>> = {
  configuration_invalid: 'correct the environment variable; edge/config.ts lists them',
  EADDRINUSE: 'choose another NOZZLE_PORT, or 0 for any free one',
  EACCES: 'choose a NOZZLE_PORT above 1023',
  ENOTFOUND: 'correct NOZZLE_DATABASE_URL: its host has no address',
}

async function main(): Promise<void> {
  const config = readEdgeConfig(process.env)
  const database = await openDatabase(config.databaseUrl)
  await database.migrate()
  const { db, availability } = database
  const { fetch } = globalThis
  const log = createConsoleLog(config.logLevel)
  const deps = createDeps({
    ...{ config, db, availability, fetch, log, nowMs: Date.now },
    assets: readAssets(),
    digests: nodeDigests,
    transport: createNodeTransport(),
  })
  await deps.clock.keepInStep()
  setInterval(() => void deps.clock.keepInStep(), CLOCK_RETRY_MS).unref()
  setInterval(() => deps.pool.upkeep(), POOL_UPKEEP_MS).unref()
  const jobs = new JobRunner(deps)
  const jobTimer = setInterval(() => void jobs.runDueJobs(), JOB_TICK_MS)
  const { port, address } = config
  const onCut = (reason: string): void => log('warn', 'connection cut', { reason })
  const server = await startNodeServer(createApp(deps), { port, address, onCut })
  let isStopping = false
  const stop = async (reason: string): Promise<void> => {
    if (isStopping) {
      log('warn', 'asked to stop again: exiting now', { reason })
      process.exit(1)
    }
    isStopping = true
    log('info', 'stopping', { reason })
    setTimeout(() => process.exit(1), STREAM_GRACE_MS + EXIT_SLACK_MS).unref()
    clearInterval(jobTimer)
    await server.stop(STREAM_GRACE_MS)
    await jobs.stop()
    await deps.voids.flush()
    await deps.tracing.flush()
    await deps.admission.close()
    await database.close()
    process.exit(0)
  }
  for (const reason of ['SIGTERM', 'SIGINT', 'disconnect'] as const) {
    process.on(reason, () => void stop(reason).catch(fail))
  }
  const url = config.publicUrl ?? server.url
  log('info', 'edge ready', { url })
  process.send?.({ type: 'ready', url: server.url })
}

function fail(error: unknown): never {
  logFailure('error', 'the edge cannot go on', { reason: errorText(error) })
  process.exit(1)
}

/** Exit code 2 = the environment is at fault: a supervisor need not try again. */
function failToStart(error: unknown): never {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const fix = START_FIXES[code]
  if (fix === undefined) fail(error)
  logFailure('error', 'the edge cannot start', { reason: errorText(error), fix })
  process.exit(EXIT_CONFIGURATION)
}

await main().catch(failToStart)
