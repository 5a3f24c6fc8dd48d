/**
 * The adapter tiers behind the scheduler's port: store → disk → RAM → slot. An adapter is fetched
 * once however many wait for it, loaded once however many start with it, and stays in its slot
 * while anybody holds a lease.
 */
import { errorCodeOf, HostError } from '../errors.ts'
import type { AdapterPort, HeldAdapter, SlotLease } from '../scheduler/adapter-port.ts'
import { abortable, requestAborted } from './abortable.ts'
import { AdapterDemand } from './adapter-demand.ts'
import { DemandPolicy } from './eviction-policy.ts'
import { ImageFetcher, type ImageFetcherOptions } from './image-fetcher.ts'
import { SlotPool, type SlotPoolOptions } from './slot-pool.ts'

export type AdapterCacheOptions = Omit<ImageFetcherOptions & SlotPoolOptions, 'demand'>

export class AdapterCache implements AdapterPort {
  readonly #options: AdapterCacheOptions
  readonly #images: ImageFetcher
  readonly #slots: SlotPool
  readonly #demand: AdapterDemand

  constructor(options: AdapterCacheOptions) {
    const demand = new AdapterDemand(new DemandPolicy(options.engine.limits.slotCount), options)
    this.#options = options
    this.#demand = demand
    this.#images = new ImageFetcher({ ...options, demand })
    this.#slots = new SlotPool({ ...options, demand })
  }

  async acquire(digest: string, signal: AbortSignal): Promise<SlotLease> {
    if (signal.aborted) throw requestAborted()
    const source = this.locate(digest)
    this.#demand.used(digest)
    try {
      const joined = this.#slots.join(digest, signal)
      if (joined !== null) return { ...(await joined), source }
      const image = await abortable(this.#images.fetch(digest), signal)
      return { ...(await this.#slots.load(image, signal)), source }
    } catch (error) {
      throw toLoadError(error)
    }
  }

  acquireResident(digest: string): SlotLease | null {
    const pinned = this.#slots.joinResident(digest)
    if (pinned === null) return null
    this.#demand.used(digest)
    return { ...pinned, source: 'slot' }
  }

  async prefetch(digest: string): Promise<void> {
    if (this.#slots.isResident(digest)) return
    await this.#images.fetch(digest)
  }

  async hint(digest: string): Promise<void> {
    if (!this.#slots.isResident(digest)) await this.#images.hint(digest)
  }

  stage(digest: string): void {
    if (this.#slots.isHeld(digest)) return
    const image = this.#options.ram.get(digest)
    if (image !== null) this.#slots.stage(image)
  }

  wait(digest: string): () => void {
    return this.#demand.wait(digest)
  }

  locate(digest: string): 'slot' | 'ram' | 'disk' | 'store' {
    if (this.#slots.isResident(digest)) return 'slot'
    if (this.#options.ram.has(digest)) return 'ram'
    return this.#options.disk.has(digest) ? 'disk' : 'store'
  }

  get unusedSwapUs(): number {
    return this.#slots.unusedLoadUs
  }

  get evictions(): number {
    return this.#slots.evictions
  }

  residency(): readonly HeldAdapter[] {
    const held = new Map<string, HeldAdapter['tier']>()
    // The fastest tier last, so that it stays.
    for (const digest of this.#options.disk.digests()) held.set(digest, 'disk')
    for (const digest of this.#options.ram.digests()) held.set(digest, 'ram')
    for (const digest of this.#slots.residents()) held.set(digest, 'slot')
    return Array.from(held, ([digest, tier]) => ({ digest, tier }))
  }
}

/** What the engine says of a load → what the port promises. */
function toLoadError(error: unknown): HostError {
  if (error instanceof HostError) return error
  if (errorCodeOf(error) === 'pack_mismatch') {
    const message = 'the adapter does not fit the base model'
    return new HostError('adapter_invalid', message, { cause: error })
  }
  const message = 'the adapter could not be loaded into a slot'
  return new HostError('adapter_load_failed', message, { cause: error })
}
