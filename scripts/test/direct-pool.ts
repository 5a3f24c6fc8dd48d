/**
 * A pool whose store takes files directly: a real edge, a real host on real tiers with the fake
 * engine, a store that speaks S3, and an adapter that is large enough to go in parts.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TestPool, until } from '../../edge/test/support/test-pool.ts'
import { AdapterCache } from '../../gpu-host/adapters/adapter-cache.ts'
import { PeftIntake } from '../../gpu-host/adapters/adapter-intake.ts'
import { DiskTier } from '../../gpu-host/adapters/disk-tier.ts'
import { openStore } from '../../gpu-host/adapters/open-store.ts'
import { RamTier } from '../../gpu-host/adapters/ram-tier.ts'
import { type TensorPart, writeParts } from '../../gpu-host/adapters/test/support/adapter-files.ts'
import { S3Server } from '../../gpu-host/adapters/test/support/s3-server.ts'
import { VECTOR_BASE } from '../../gpu-host/adapters/test/support/vectors.ts'
import { systemClock } from '../../gpu-host/clock.ts'
import { readConfig } from '../../gpu-host/config.ts'
import { Host } from '../../gpu-host/host.ts'
import { withHostId } from '../../gpu-host/host-id.ts'
import { serveNative } from '../../gpu-host/serving-engine.ts'
import { createMetrics } from '../../gpu-host/telemetry/metrics.ts'
import { FakeEngine } from '../../gpu-host/test/support/fake-engine.ts'

const RANK = 16
/** One layer of an adapter has about 1.7 MB, all have three parts. */
const BASE = {
  ...VECTOR_BASE,
  baseModel: 'fake-base',
  embeddingLength: 1024,
  feedForwardLength: 8192,
  layerCount: 11,
}

export class DirectPool {
  readonly pool: TestPool
  readonly server: S3Server
  readonly directory: string
  readonly #host: Host

  private constructor(pool: TestPool, server: S3Server, host: Host, directory: string) {
    this.pool = pool
    this.server = server
    this.directory = directory
    this.#host = host
  }

  static async start(): Promise<DirectPool> {
    const [pool, server] = await Promise.all([TestPool.start(), S3Server.start()])
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-direct-'))
    const host = await startHost(pool, server, directory)
    await until(() => {
      if (pool.deps.pool.known().length === 0) throw new Error('no beat')
    })
    return new DirectPool(pool, server, host, directory)
  }

  async stop(): Promise<void> {
    await this.#host.stop()
    await Promise.all([this.pool.stop(), this.server.stop()])
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** A PEFT directory; each seed makes another adapter. */
  createAdapter(seed: number, layers: number, config: Record<string, unknown> = {}): string {
    const directory = join(this.directory, `adapter-${seed}`)
    mkdirSync(directory)
    const modules = ['gate_proj', 'up_proj', 'down_proj']
    const indexes = Array.from({ length: layers }, (_, layer) => layer)
    const tensors = indexes.flatMap((layer) =>
      modules.flatMap((name) => createTensors(layer, name, seed)),
    )
    const base = {
      ...{ peft_type: 'LORA', task_type: 'CAUSAL_LM', r: RANK, lora_alpha: 32 },
      layers_to_transform: indexes,
      target_modules: modules,
    }
    writeParts(directory, { config: { ...base, ...config }, tensors })
    return directory
  }

  /** Keys of parts that wait to be completed, and of packs. */
  keys(kind: 'staging' | 'packs'): string[] {
    return [...this.server.objects.keys()].filter((key) => key.startsWith(`pool/${kind}/`))
  }

  /** Parts that clients have sent, each as often as it was. */
  sentParts(): string[] {
    return this.server.requests
      .filter(({ method, key }) => method === 'PUT' && key.startsWith('pool/staging/'))
      .map(({ key }) => key)
  }
}

async function startHost(pool: TestPool, server: S3Server, directory: string): Promise<Host> {
  const engine = new FakeEngine({ info: BASE, limits: { slotBytes: 1e8 } })
  const config = withHostId(
    readConfig({
      NOZZLE_POOL_SECRET: new TextDecoder().decode(pool.deps.config.poolSecret),
      NOZZLE_DATA_DIR: directory,
      NOZZLE_BASE_MODEL_PATH: 'none',
      NOZZLE_BASE_MODEL_NAME: BASE.baseModel,
      NOZZLE_EDGE_URL: pool.url,
    }),
  )
  const log = (): void => {}
  const address = { kind: 's3', s3: server.settings } as const
  const { store, staging } = openStore(address, { clock: systemClock, log, fetch })
  const disk = await DiskTier.open({ directory: join(directory, 'disk'), bytesMax: 1e9, log })
  const intake = new PeftIntake({ engine, store, disk, log })
  const host = new Host({
    settings: config,
    engine: serveNative(engine),
    adapters: new AdapterCache({
      ...{ engine, store, disk, ram: new RamTier(1e9), clock: systemClock, log },
    }),
    intake,
    ...(staging && { direct: { staging, intake } }),
    clock: systemClock,
    log,
    fetch: globalThis.fetch,
    version: 'test',
    randomSeed: () => 1,
    metrics: createMetrics({ withProcess: false }),
  })
  await host.listen()
  return host
}

function createTensors(layer: number, name: string, seed: number): TensorPart[] {
  const isDown = name === 'down_proj'
  const wide = BASE.feedForwardLength
  const narrow = BASE.embeddingLength
  const sides = { A: isDown ? wide : narrow, B: isDown ? narrow : wide }
  return Object.entries(sides).map(([side, length]) => ({
    name: `base_model.model.model.layers.${layer}.mlp.${name}.lora_${side}.weight`,
    dtype: 'F32',
    shape: side === 'A' ? [RANK, length] : [length, RANK],
    bytes: createValues(RANK * length, seed + layer * 31 + name.length),
  }))
}

/** Small, and of no pattern that a part could share with another. */
function createValues(count: number, seed: number): Uint8Array {
  let state = (seed * 2_654_435_761) >>> 0
  const values = Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return (state / 2 ** 32 - 0.5) / 8
  })
  return new Uint8Array(values.buffer)
}
