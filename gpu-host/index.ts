/**
 * Entry of a host process: environment → engine → tiers → host. A start that fails says why, and
 * what to do, in one line on stderr: exit code 2 where trying again cannot help (the configuration,
 * a port in use), 1 for everything else.
 */

import { randomInt } from 'node:crypto'
import packageJson from '../package.json' with { type: 'json' }
import { AdapterCache } from './adapters/adapter-cache.ts'
import { PeftIntake } from './adapters/adapter-intake.ts'
import type { AdapterTarget } from './adapters/base-shape.ts'
import { DiskTier } from './adapters/disk-tier.ts'
import { openStore } from './adapters/open-store.ts'
import { type PayloadMemory, RamTier } from './adapters/ram-tier.ts'
import { systemClock } from './clock.ts'
import { readConfig } from './config.ts'
import type { Engine } from './engine.ts'
import { HostError } from './errors.ts'
import { Host } from './host.ts'
import { type NamedConfig, withHostId } from './host-id.ts'
import { runHostProcess } from './host-process.ts'
import { createLog } from './log.ts'
import { openNativeEngine } from './native-engine.ts'
import { type ServingEngine, serveNative } from './serving-engine.ts'
import { EXIT_CONFIGURATION, EXIT_START_FAILED, startFailureOf } from './start-failure.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { readChatTemplate } from './text/chat-template.ts'
import { openVllm } from './vllm/open-vllm.ts'

const log = createLog((line) => process.stderr.write(line), systemClock.nowMs)
const TEMPLATE_IS_VLLMS =
  'NOZZLE_CHAT_TEMPLATE: the vLLM server has the chat template; give it --chat-template'

interface OpenedEngine {
  readonly serving: ServingEngine
  /** Where the adapter tiers load to. */
  readonly slots: AdapterTarget & Pick<Engine, 'loadSlot' | 'clearSlot'>
  /** What is told which payloads stay in RAM; null = nobody asks. */
  readonly memory: PayloadMemory | null
  /** One line for the log. */
  readonly summary: string
}

async function openEngine(config: NamedConfig): Promise<OpenedEngine> {
  const { vllm, chatTemplatePath: path } = config
  if (vllm !== null) {
    if (path !== null) throw new HostError('invalid_request', TEMPLATE_IS_VLLMS)
    const opened = await openVllm({ ...config, vllm, clock: systemClock, log, fetch })
    return { ...opened, memory: null }
  }
  const chatTemplate = path === null ? undefined : await readChatTemplate(path)
  const { engine, summary } = await openNativeEngine(config.engine)
  return { serving: serveNative(engine, chatTemplate), slots: engine, memory: engine, summary }
}

async function createHost(config: NamedConfig, opened: OpenedEngine): Promise<Host> {
  const { serving, slots, memory } = opened
  const metrics = createMetrics({ withProcess: true })
  const { store, staging } = openStore(config.store, { clock: systemClock, log, fetch, metrics })
  const disk = await DiskTier.open({
    directory: config.diskTierDirectory,
    bytesMax: config.diskTierBytesMax,
    log,
  })
  disk.warm()
  const ram = new RamTier(config.ramTierBytesMax, memory)
  const intake = new PeftIntake({ engine: slots, store, disk, log })
  staging?.keepSwept()
  return new Host({
    settings: config,
    engine: serving,
    adapters: new AdapterCache({ engine: slots, store, disk, ram, clock: systemClock, log }),
    intake,
    ...(staging && { direct: { staging, intake } }),
    clock: systemClock,
    log,
    fetch,
    version: packageJson.version,
    randomSeed: () => randomInt(2 ** 32),
    metrics,
  })
}

async function start(config: NamedConfig): Promise<void> {
  // Nothing to drain yet; an orphan that goes on opening a model would only hold memory.
  const abandon = (): never => process.exit(EXIT_START_FAILED)
  // It may have gone while the modules were loaded.
  if (process.connected === false) abandon()
  process.on('disconnect', abandon)
  const opened = await openEngine(config)
  const { summary } = opened
  log('info', 'engine open', { summary })
  const host = await createHost(config, opened)
  process.off('disconnect', abandon)
  await runHostProcess({ host, log, drainGraceMs: config.drainGraceMs, summary })
}

function exitWith(error: unknown, exitCodeMin = EXIT_START_FAILED): never {
  const { exitCode, ...said } = startFailureOf(error)
  log('error', 'the host did not start', said)
  process.exit(Math.max(exitCode, exitCodeMin))
}

function readConfigOrExit(): NamedConfig {
  try {
    return withHostId(readConfig())
  } catch (error) {
    return exitWith(error, EXIT_CONFIGURATION)
  }
}

start(readConfigOrExit()).catch((error: unknown) => exitWith(error))
