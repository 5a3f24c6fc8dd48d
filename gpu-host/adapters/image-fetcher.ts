/**
 * Brings an adapter into RAM from the nearest tier that has it: disk, else store (by way of the
 * disk). Single flight per adapter, and only a few adapters at once, so that a burst of cold ones
 * cannot fill the memory. Nothing is remembered of a failure here: the next call tries again, and
 * the store has its own guard (guarded-store.ts).
 */
import type { AdapterImage } from '../engine.ts'
import { HostError } from '../errors.ts'
import type { AdapterDemand } from './adapter-demand.ts'
import type { AdapterTarget } from './base-shape.ts'
import type { DiskTier } from './disk-tier.ts'
import { checkPackFits } from './pack-fit.ts'
import { type PlaceClaim, Places } from './places.ts'
import type { RamTier } from './ram-tier.ts'
import type { AdapterStore } from './store-tier.ts'

/**
 * Bound memory beyond the RAM tier: that many images may be on their way. Apart from each other: a
 * store that hangs must not hold up what is on disk.
 */
const DISK_READS_MAX = 4
const FETCHES_MAX = 4
/** Hints beyond so many at a time are dropped: their requests will come, or not. */
const HINTS_MAX = 64

export interface ImageFetcherOptions {
  readonly engine: AdapterTarget
  readonly ram: RamTier
  readonly disk: DiskTier
  readonly store: AdapterStore
  readonly demand: AdapterDemand
}

interface Flight {
  readonly image: Promise<AdapterImage>
  readonly claim: PlaceClaim
}

export class ImageFetcher {
  readonly #options: ImageFetcherOptions
  readonly #flights = new Map<string, Flight>()
  /** Under way. */
  #hints = 0
  readonly #diskReads = new Places(DISK_READS_MAX)
  readonly #fetches = new Places(FETCHES_MAX)

  constructor(options: ImageFetcherOptions) {
    this.#options = options
  }

  /**
   * Rejects with `adapter_not_found`, `adapter_invalid`, `store_unavailable` or
   * `adapter_load_failed`.
   */
  fetch(digest: string): Promise<AdapterImage> {
    const image = this.#options.ram.get(digest)
    if (image !== null) return Promise.resolve(image)
    const flight = this.#flights.get(digest) ?? this.#start(digest, { isUrgent: true })
    if (!flight.claim.isUrgent) {
      // What began as a hint is now needed.
      flight.claim.isUrgent = true
      this.#diskReads.fill()
      this.#fetches.fill()
    }
    return flight.image
  }

  /** Fetches what may be asked for soon, behind everything that is; dropped when many wait. */
  async hint(digest: string): Promise<void> {
    const isKnown = this.#options.ram.has(digest) || this.#flights.has(digest)
    if (isKnown || this.#hints >= HINTS_MAX) return
    this.#hints += 1
    try {
      await this.#start(digest, { isUrgent: false }).image
    } finally {
      this.#hints -= 1
    }
  }

  #start(digest: string, claim: PlaceClaim): Flight {
    const image = this.#fetch(digest, claim).finally(() => this.#flights.delete(digest))
    // Every caller may have left by the time it fails.
    image.catch(() => {})
    const flight = { image, claim }
    this.#flights.set(digest, flight)
    return flight
  }

  async #fetch(digest: string, claim: PlaceClaim): Promise<AdapterImage> {
    const { ram, engine, demand } = this.#options
    try {
      const image =
        (await this.#fromDisk(digest, claim)) ??
        (await this.#fetches.run(claim, () => this.#fromStore(digest)))
      checkPackFits(image.manifest, engine)
      ram.put(image, (held) => demand.worth(held, demand.fetchMs(held)))
      return image
    } catch (error) {
      throw toFetchError(error)
    }
  }

  async #fromDisk(digest: string, claim: PlaceClaim): Promise<AdapterImage | null> {
    const { disk } = this.#options
    return disk.has(digest) ? this.#diskReads.run(claim, () => disk.read(digest)) : null
  }

  async #fromStore(digest: string): Promise<AdapterImage> {
    const { store, disk } = this.#options
    // Shared by whoever comes, so no caller's leaving ends it.
    const bytes = await store.get(digest, new AbortController().signal)
    if (bytes === null) {
      throw new HostError('adapter_not_found', 'no adapter of this digest is stored')
    }
    return disk.write(digest, bytes)
  }
}

const TOLD: readonly string[] = ['adapter_not_found', 'adapter_invalid', 'store_unavailable']

function toFetchError(error: unknown): HostError {
  if (error instanceof HostError && TOLD.includes(error.code)) return error
  return new HostError('adapter_load_failed', 'the adapter could not be fetched', { cause: error })
}
