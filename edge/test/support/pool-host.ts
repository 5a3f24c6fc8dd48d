/**
 * A real host with the fake engine, joined to an edge over HTTP: its heartbeats, usage and uploads
 * go where they go in earnest. Uploaded weights are what the fake engine's output depends on.
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AdapterIntake } from '../../../gpu-host/adapter-upload.ts'
import { systemClock } from '../../../gpu-host/clock.ts'
import { readConfig } from '../../../gpu-host/config.ts'
import { HostError } from '../../../gpu-host/errors.ts'
import { Host, type HostSettings } from '../../../gpu-host/host.ts'
import { withHostId } from '../../../gpu-host/host-id.ts'
import type { Log } from '../../../gpu-host/log.ts'
import { serveNative } from '../../../gpu-host/serving-engine.ts'
import { createMetrics } from '../../../gpu-host/telemetry/metrics.ts'
import { FakeEngine, type FakeEngineOptions } from '../../../gpu-host/test/support/fake-engine.ts'
import {
  type AdapterScript,
  ScriptedAdapters,
} from '../../../gpu-host/test/support/scripted-adapters.ts'

/** Shared by the hosts of a pool, as their object store is. */
export type AdapterStore = Map<string, AdapterScript>

export interface PoolHostOptions {
  readonly edgeUrl: string
  readonly poolSecret: string
  readonly store: AdapterStore
  readonly hostId?: string
  readonly engine?: FakeEngineOptions
  readonly settings?: Partial<HostSettings>
  readonly environment?: Readonly<Record<string, string>>
  readonly log?: Log
}

export interface PoolHost {
  readonly host: Host
  readonly engine: FakeEngine
  /** Gone once the host has stopped. */
  readonly journalDirectory: string
  stop(): Promise<void>
}

export async function startPoolHost(options: PoolHostOptions): Promise<PoolHost> {
  const directory = mkdtempSync(join(tmpdir(), 'nozzle-edge-'))
  const engine = new FakeEngine(options.engine)
  const config = withHostId(
    readConfig({
      NOZZLE_POOL_SECRET: options.poolSecret,
      NOZZLE_DATA_DIR: directory,
      NOZZLE_BASE_MODEL_PATH: 'none',
      NOZZLE_BASE_MODEL_NAME: 'fake-base',
      NOZZLE_EDGE_URL: options.edgeUrl,
      NOZZLE_HOST_ID: options.hostId ?? 'hst_test',
      ...options.environment,
    }),
  )
  const host = new Host({
    settings: { ...config, ...options.settings },
    engine: serveNative(engine),
    adapters: new ScriptedAdapters(engine, systemClock, options.store),
    intake: createIntake(engine, options.store),
    clock: systemClock,
    log: options.log ?? (() => {}),
    fetch: globalThis.fetch,
    version: 'test',
    randomSeed: () => 1,
    metrics: createMetrics({ withProcess: false }),
  })
  await host.listen()
  return {
    host,
    engine,
    journalDirectory: config.journalDirectory,
    async stop() {
      await host.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** As the real intake does, of what is no JSON object, or asks for what is not served. */
function refusesConfig(text: string): boolean {
  try {
    const config: unknown = JSON.parse(text)
    return typeof config !== 'object' || config === null || Reflect.get(config, 'use_dora') === true
  } catch {
    return true
  }
}

function createIntake(engine: FakeEngine, store: AdapterStore): AdapterIntake {
  return {
    async install({ configPath, weightsPath }) {
      if (refusesConfig(await readFile(configPath, 'utf8'))) {
        throw new HostError('adapter_invalid', 'adapter_config.json: use_dora is not supported', {
          param: 'use_dora',
        })
      }
      const payload = await readFile(weightsPath)
      const digest = `sha256:${createHash('sha256').update(payload).digest('hex')}`
      const existed = store.has(digest)
      store.set(digest, { payload, fetchMs: 0, loadMs: 0, fails: 'never' })
      return {
        digest,
        base_model: engine.info.baseModel,
        base_digest: engine.info.baseDigest,
        rank: 8,
        alpha: 16,
        use_rslora: false,
        target_modules: ['attn_q', 'attn_v'],
        tensors: 4,
        pack_bytes: payload.length,
        existed,
      }
    },
  }
}
