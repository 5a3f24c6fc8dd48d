/**
 * Brings an adapter into RAM from the nearest tier that has it: disk, else store (by way of the
 * disk). Single flight per adapter, and only a few adapters at once, so that a burst of cold ones
 * cannot fill the memory. Nothing is remembered of a failure: the next call tries again.
 */
import type { Clock } from '../clock.ts'
import type { AdapterImage, Engine } from '../engine.ts'
import { HostError } from '../errors.ts'
import type { DiskTier } from './disk-tier.ts'
import { checkPackFits } from './pack-fit.ts'
import type { RamTier } from './ram-tier.ts'
import type { AdapterStore } from './store-tier.ts'

/** Bounds memory beyond the RAM tier: that many images may be on their way. */
const FETCHES_MAX = 4
/** A store that says nothing for so long has failed. */
const STORE_TIMEOUT_MS = 60_000

export interface ImageFetcherOptions {
  readonly engine: Pick<Engine, 'info' | 'limits'>
  readonly ram: RamTier
  readonly disk: DiskTier
  readonly store: AdapterStore
  readonly clock: Clock
}

export class ImageFetcher {
  readonly #options: ImageFetcherOptions
  readonly #flights = new Map<string, Promise<AdapterImage>>()
  readonly #queue: (() => void)[] = []
  #running = 0

  constructor(options: ImageFetcherOptions) {
    this.#options = options
  }

  /** Rejects with `adapter_not_found`, `adapter_invalid` or `adapter_load_failed`. */
  fetch(digest: string): Promise<AdapterImage> {
    const image = this.#options.ram.get(digest)
    if (image !== null) return Promise.resolve(image)
    const running = this.#flights.get(digest)
    if (running !== undefined) return running
    const flight = this.#fetch(digest).finally(() => this.#flights.delete(digest))
    this.#flights.set(digest, flight)
    // Every caller may have left by the time it fails.
    flight.catch(() => {})
    return flight
  }

  async #fetch(digest: string): Promise<AdapterImage> {
    await this.#enter()
    try {
      const image = (await this.#options.disk.read(digest)) ?? (await this.#fromStore(digest))
      checkPackFits(image.manifest, this.#options.engine)
      this.#options.ram.put(image)
      return image
    } catch (error) {
      throw toFetchError(error)
    } finally {
      this.#leave()
    }
  }

  async #fromStore(digest: string): Promise<AdapterImage> {
    const { store, disk, clock } = this.#options
    const timeout = new AbortController()
    const cancel = clock.setTimer(STORE_TIMEOUT_MS, () => timeout.abort())
    try {
      const bytes = await store.get(digest, timeout.signal)
      if (bytes === null) {
        throw new HostError('adapter_not_found', 'no adapter of this digest is stored')
      }
      return await disk.write(digest, bytes)
    } finally {
      cancel()
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < FETCHES_MAX) this.#running += 1
    // The one that leaves hands its place over, so the count stays.
    else await new Promise<void>((resolve) => this.#queue.push(resolve))
  }

  #leave(): void {
    const next = this.#queue.shift()
    if (next === undefined) this.#running -= 1
    else next()
  }
}

function toFetchError(error: unknown): HostError {
  const isTold =
    error instanceof HostError &&
    (error.code === 'adapter_not_found' || error.code === 'adapter_invalid')
  if (isTold) return error
  return new HostError('adapter_load_failed', 'the adapter could not be fetched', { cause: error })
}
