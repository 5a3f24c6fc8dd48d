/** A host on a fake vLLM server, with real adapter tiers and adapters that were really uploaded. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AdapterCache } from '../../adapters/adapter-cache.ts'
import { PeftIntake } from '../../adapters/adapter-intake.ts'
import { DiskTier } from '../../adapters/disk-tier.ts'
import { RamTier } from '../../adapters/ram-tier.ts'
import { DirectoryStore } from '../../adapters/store-tier.ts'
import { readParts, writeParts } from '../../adapters/test/support/adapter-files.ts'
import { adapterPaths, VECTOR_BASE, vectorDirectory } from '../../adapters/test/support/vectors.ts'
import { systemClock } from '../../clock.ts'
import { readConfig } from '../../config.ts'
import { withHostId } from '../../host-id.ts'
import { openVllm } from '../../vllm/open-vllm.ts'
import { FAKE_VOCABULARY, FakeVllm } from './fake-vllm.ts'
import { POOL_SECRET, TestHost } from './test-host.ts'

export interface VllmHostOptions {
  /** Environment beyond what every such host needs. */
  readonly env?: Record<string, string>
}

export class VllmHost {
  readonly directory: string
  readonly server: FakeVllm
  readonly intake: PeftIntake
  readonly test: TestHost
  /** What was told of the server. */
  readonly logs: readonly string[]
  readonly #uploads: string

  private constructor(parts: Pick<VllmHost, 'server' | 'directory' | 'intake' | 'test' | 'logs'>) {
    this.server = parts.server
    this.directory = parts.directory
    this.intake = parts.intake
    this.test = parts.test
    this.logs = parts.logs
    this.#uploads = join(parts.directory, 'uploads')
  }

  static async start(options: VllmHostOptions = {}): Promise<VllmHost> {
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-vllm-'))
    const server = new FakeVllm()
    await server.start()
    const config = withHostId(
      readConfig({
        NOZZLE_POOL_SECRET: POOL_SECRET,
        NOZZLE_DATA_DIR: directory,
        NOZZLE_BASE_MODEL_PATH: writeBaseFolder(join(directory, 'base')),
        NOZZLE_BASE_MODEL_NAME: 'fake-base',
        NOZZLE_ENGINE: 'vllm',
        NOZZLE_VLLM_URL: `${server.url}/v1/`,
        NOZZLE_SLOTS: '2',
        NOZZLE_SEQUENCES: '8',
        ...options.env,
      }),
    )
    if (config.vllm === null) throw new Error('not a host of a vLLM server')
    const logs: string[] = []
    const log = (_level: string, message: string): void => void logs.push(message)
    const { serving, slots } = await openVllm({
      vllm: config.vllm,
      engine: config.engine,
      clock: systemClock,
      log,
      fetch,
    })
    const store = new DirectoryStore(join(directory, 'store'))
    const disk = await DiskTier.open({ directory: join(directory, 'disk'), bytesMax: 1e9, log })
    const ram = new RamTier(1e9)
    const intake = new PeftIntake({ engine: slots, store, disk, log })
    const tiers = { engine: slots, store, disk, ram, clock: systemClock, log }
    const test = await TestHost.start({
      parts: { engine: serving, adapters: new AdapterCache(tiers), intake },
    })
    return new VllmHost({ server, directory, intake, test, logs })
  }

  /** Uploads a vector adapter whose weights `seed` makes its own. Resolves to its digest. */
  async deploy(seed: number): Promise<string> {
    const directory = join(this.#uploads, String(seed))
    mkdirSync(directory, { recursive: true })
    const parts = readParts(vectorDirectory('plain'))
    const [first] = parts.tensors
    if (first === undefined) throw new Error('the vector has no tensors')
    const values = Buffer.from(first.bytes)
    values.writeFloatLE(seed)
    first.bytes = values
    writeParts(directory, parts)
    return (await this.intake.install(adapterPaths(directory))).digest
  }

  /** Adapters whose folders the server could read. */
  folders(): string[] {
    return readdirSync(join(this.directory, 'host', 'vllm-loras'))
  }

  async stop(): Promise<void> {
    await this.test.stop()
    await this.server.kill()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Of the vectors' base, as Hugging Face names its fields. */
export function writeBaseFolder(directory: string): string {
  mkdirSync(directory, { recursive: true })
  const config = {
    architectures: ['LlamaForCausalLM'],
    hidden_size: VECTOR_BASE.embeddingLength,
    intermediate_size: VECTOR_BASE.feedForwardLength,
    num_hidden_layers: VECTOR_BASE.layerCount,
    num_attention_heads: VECTOR_BASE.headCount,
    num_key_value_heads: VECTOR_BASE.headCountKv,
    vocab_size: FAKE_VOCABULARY,
  }
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  writeFileSync(join(directory, 'model.safetensors'), 'any weights')
  return directory
}
