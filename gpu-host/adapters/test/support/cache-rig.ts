/**
 * An adapter cache on real tiers in a temporary directory, a store in memory and the fake engine.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../../../clock.ts'
import { systemClock } from '../../../clock.ts'
import type { AdapterImage, EngineLimits } from '../../../engine.ts'
import { samplingOptions } from '../../../protocol.ts'
import type { SlotLease } from '../../../scheduler/adapter-port.ts'
import { expectedTokens, FakeEngine } from '../../../test/support/fake-engine.ts'
import { AdapterCache } from '../../adapter-cache.ts'
import { DiskTier } from '../../disk-tier.ts'
import { GuardedStore } from '../../guarded-store.ts'
import { writePack } from '../../pack-file.ts'
import { RamTier } from '../../ram-tier.ts'
import type { AdapterStore } from '../../store-tier.ts'
import { VECTOR_BASE } from './vectors.ts'

/** Counts what is asked of it; `onGet` may wait, or throw. */
export class MemoryStore implements AdapterStore {
  readonly packs = new Map<string, Uint8Array>()
  readonly gets: string[] = []
  onGet: (digest: string, signal: AbortSignal) => Promise<void> = async () => {}

  async get(digest: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    this.gets.push(digest)
    await this.onGet(digest, signal)
    const pack = this.packs.get(digest)
    if (pack === undefined) return null
    return (async function* () {
      yield pack
    })()
  }

  async put(digest: string, path: string): Promise<void> {
    this.packs.set(digest, readFileSync(path))
  }
}

/** The fake engine, with loads that the test can hold or fail. */
export class LoadingEngine extends FakeEngine {
  readonly loads: string[] = []
  onLoad: (digest: string) => Promise<void> = async () => {}

  override async loadSlot(slot: number, image: AdapterImage): Promise<void> {
    this.loads.push(image.manifest.digest)
    await this.onLoad(image.manifest.digest)
    await super.loadSlot(slot, image)
  }
}

export interface CacheRigOptions {
  readonly slots?: number
  readonly ramBytesMax?: number
  readonly diskBytesMax?: number
  readonly limits?: Partial<EngineLimits>
  readonly clock?: Clock
  /** As in a host; absent = failures of the store come through as they are. */
  readonly isStoreGuarded?: boolean
}

export class CacheRig {
  readonly engine: LoadingEngine
  readonly store = new MemoryStore()
  readonly ram: RamTier
  readonly disk: DiskTier
  readonly cache: AdapterCache
  readonly directory: string
  #sequences = 0
  #lastStep: Promise<unknown> = Promise.resolve()

  private constructor(directory: string, disk: DiskTier, options: CacheRigOptions) {
    this.directory = directory
    this.disk = disk
    this.ram = new RamTier(options.ramBytesMax ?? 1e9)
    this.engine = new LoadingEngine({
      info: VECTOR_BASE,
      limits: { slotCount: options.slots ?? 2, sequenceCount: 1e6, ...options.limits },
    })
    const clock = options.clock ?? systemClock
    const log = (): void => {}
    const { store } = this
    this.cache = new AdapterCache({
      engine: this.engine,
      ram: this.ram,
      disk,
      store: options.isStoreGuarded ? new GuardedStore({ store, clock, log }) : store,
      clock,
      log,
    })
  }

  static async create(options: CacheRigOptions = {}): Promise<CacheRig> {
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-cache-'))
    const disk = await DiskTier.open({
      directory: join(directory, 'disk'),
      bytesMax: options.diskBytesMax ?? 1e9,
      log: () => {},
    })
    return new CacheRig(directory, disk, options)
  }

  async deploy(...images: readonly AdapterImage[]): Promise<void> {
    for (const image of images) {
      const path = join(this.directory, `pack-${this.store.packs.size}`)
      await writePack(path, image)
      await this.store.put(image.manifest.digest, path)
      rmSync(path)
    }
  }

  acquire(image: AdapterImage, signal = new AbortController().signal): Promise<SlotLease> {
    return this.cache.acquire(image.manifest.digest, signal)
  }

  /**
   * Generates on the lease's slot for `turns` steps and throws unless every token is the one that
   * this adapter alone would give. The engine itself throws when the slot is loaded meanwhile.
   */
  async generate(lease: SlotLease, image: AdapterImage, turns: number): Promise<void> {
    const sequence = this.#sequences++
    const prompt = 7
    const expected = expectedTokens(image.payload, [prompt], { tokensMax: turns })
    const promptTokens = Int32Array.of(prompt)
    const sampling = samplingOptions.parse({ temperature: 0 })
    const pages = Int32Array.of(sequence)
    await this.#alone(async () =>
      this.engine.openSequence(sequence, {
        ...{ sampling, topLogprobs: -1, promptTokens },
        ...{ pages, filledCells: 0 },
      }),
    )
    let token = prompt
    for (const [position, wanted] of expected.entries()) {
      const batch = {
        tokens: Int32Array.of(token),
        positions: Int32Array.of(position),
        sequences: Int32Array.of(sequence),
        slots: Int32Array.of(lease.slot),
        outputs: Uint8Array.of(1),
      }
      const { sampled } = await this.#alone(() => this.engine.step(batch))
      token = sampled[0]?.token ?? -1
      if (token !== wanted) throw new Error(`slot ${lease.slot} does not hold its adapter`)
      await nextTurn()
    }
    await this.#alone(async () => this.engine.closeSequence(sequence))
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** The engine takes one call at a time, as from the scheduler's loop. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#lastStep.then(work)
    this.#lastStep = result.catch(() => {})
    return result
  }
}
