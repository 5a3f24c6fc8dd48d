/**
 * Brings an adapter into RAM from the nearest tier that has it: disk, else store (by way of the
 * disk). Single flight per adapter, and only a few adapters at once, so that a burst of cold ones
 * cannot fill the memory. Nothing is remembered of a failure: the next call tries again.
 */
import type { Clock } from '../clock.ts'
import type { AdapterImage, Engine } from '../engine.ts'
import { HostError } from '../errors.ts'
import type { AdapterDemand } from './adapter-demand.ts'
import type { DiskTier } from './disk-tier.ts'
import { checkPackFits } from './pack-fit.ts'
import { type PlaceClaim, Places } from './places.ts'
import type { RamTier } from './ram-tier.ts'
import type { AdapterStore } from './store-tier.ts'

/** Bounds memory beyond the RAM tier: that many images may be on their way. */
const FETCHES_MAX = 4
/** Hints beyond so many that wait are dropped: their requests will come, or not. */
const HINTS_WAITING_MAX = 64
/** A store that says nothing for so long has failed. */
const STORE_TIMEOUT_MS = 60_000

export interface ImageFetcherOptions {
  readonly engine: Pick<Engine, 'info' | 'limits'>
  readonly ram: RamTier
  readonly disk: DiskTier
  readonly store: AdapterStore
  readonly clock: Clock
  readonly demand: AdapterDemand
}

interface Flight {
  readonly image: Promise<AdapterImage>
  readonly claim: PlaceClaim
}

export class ImageFetcher {
  readonly #options: ImageFetcherOptions
  readonly #flights = new Map<string, Flight>()
  readonly #places = new Places(FETCHES_MAX)

  constructor(options: ImageFetcherOptions) {
    this.#options = options
  }

  /** Rejects with `adapter_not_found`, `adapter_invalid` or `adapter_load_failed`. */
  fetch(digest: string): Promise<AdapterImage> {
    const image = this.#options.ram.get(digest)
    if (image !== null) return Promise.resolve(image)
    const flight = this.#flights.get(digest) ?? this.#start(digest, { isUrgent: true })
    // What began as a hint is now needed.
    flight.claim.isUrgent = true
    return flight.image
  }

  /** Fetches what may be asked for soon, behind everything that is; dropped when many wait. */
  async hint(digest: string): Promise<void> {
    const isKnown = this.#options.ram.has(digest) || this.#flights.has(digest)
    if (isKnown || this.#places.waiting >= HINTS_WAITING_MAX) return
    await this.#start(digest, { isUrgent: false }).image
  }

  #start(digest: string, claim: PlaceClaim): Flight {
    const image = this.#places
      .run(claim, () => this.#fetch(digest))
      .finally(() => this.#flights.delete(digest))
    // Every caller may have left by the time it fails.
    image.catch(() => {})
    const flight = { image, claim }
    this.#flights.set(digest, flight)
    return flight
  }

  async #fetch(digest: string): Promise<AdapterImage> {
    const { disk, ram, engine, demand } = this.#options
    try {
      const image = (await disk.read(digest)) ?? (await this.#fromStore(digest))
      checkPackFits(image.manifest, engine)
      ram.put(image, (held) => demand.worth(held, demand.fetchMs(held)))
      return image
    } catch (error) {
      throw toFetchError(error)
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
}

function toFetchError(error: unknown): HostError {
  const isTold =
    error instanceof HostError &&
    (error.code === 'adapter_not_found' || error.code === 'adapter_invalid')
  if (isTold) return error
  return new HostError('adapter_load_failed', 'the adapter could not be fetched', { cause: error })
}
