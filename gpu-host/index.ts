/**
 * Entry of a host process: environment → engine → tiers → host. A start that fails says why, and
 * what to do, in one line on stderr: exit code 2 for the configuration, 1 for everything else.
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
import { errorCodeOf } from './errors.ts'
import { Host } from './host.ts'
import { type NamedConfig, withHostId } from './host-id.ts'
import { runHostProcess } from './host-process.ts'
import { createLog, errorText } from './log.ts'
import { openNativeEngine } from './native-engine.ts'
import { type ServingEngine, serveNative } from './serving-engine.ts'
import { openVllm } from './vllm/open-vllm.ts'

const EXIT_START_FAILED = 1
const EXIT_CONFIGURATION = 2

/** By error code; what an operator can do about it. */
const FIXES: Readonly<Record<string, string>> = {
  invalid_request: 'correct the environment variables; gpu-host/config.ts lists them',
  model_not_found: 'set NOZZLE_BASE_MODEL_PATH to a GGUF file',
  model_invalid: 'set NOZZLE_BASE_MODEL_PATH to a whole GGUF file that this release reads',
  unsupported_architecture: 'set NOZZLE_BASE_MODEL_PATH to a model of a served architecture',
  out_of_memory: 'lower NOZZLE_SLOTS, NOZZLE_RANK_MAX or NOZZLE_KV_TOKENS, or take a smaller model',
  engine_failed: 'start the vLLM server, or correct NOZZLE_VLLM_URL',
  engine_not_built: 'run `npm run setup`',
  backend_failed: 'check the device and its driver, or set NOZZLE_DEVICE=cpu',
  invalid_argument: 'correct the engine sizes in the environment',
  EADDRINUSE: 'choose another NOZZLE_HOST_PORT, or 0 for any free one',
  EACCES: 'make NOZZLE_DATA_DIR writable for this user, or choose another port',
  ENOSPC: 'free some disk space',
  EDQUOT: 'free some disk space of this user, or raise its quota',
  journal_locked: 'stop the other host that uses this NOZZLE_DATA_DIR, or wait for its end',
  journal_failed: 'check the disk under NOZZLE_DATA_DIR: it does not keep what is written',
}

const log = createLog((line) => process.stderr.write(line), systemClock.nowMs)

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
  const { vllm } = config
  if (vllm !== null) {
    const opened = await openVllm({ ...config, vllm, clock: systemClock, log, fetch })
    return { ...opened, memory: null }
  }
  const { engine, summary } = await openNativeEngine(config.engine)
  return { serving: serveNative(engine), slots: engine, memory: engine, summary }
}

async function createHost(config: NamedConfig, opened: OpenedEngine): Promise<Host> {
  const { serving, slots, memory } = opened
  const { store, staging } = openStore(config.store, { clock: systemClock, log, fetch })
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
    withProcessMetrics: true,
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

function exitWith(error: unknown, exitCode: number): never {
  const code = errorCodeOf(error) ?? 'start_failed'
  const fix = FIXES[code]
  log('error', 'the host did not start', {
    code,
    reason: errorText(error),
    ...(fix === undefined ? {} : { fix }),
  })
  process.exit(exitCode)
}

function readConfigOrExit(): NamedConfig {
  try {
    return withHostId(readConfig())
  } catch (error) {
    return exitWith(error, EXIT_CONFIGURATION)
  }
}

start(readConfigOrExit()).catch((error: unknown) => exitWith(error, EXIT_START_FAILED))
