/**
 * The slots as the cache uses them: hands out pinned ones, loads into free ones, and queues whoever
 * finds none, first come first served. Every moment at which a slot may have become free ends in
 * `#grantWaiting`, in the same turn, so no waiter is ever left behind.
 */
import type { Clock } from '../clock.ts'
import type { AdapterImage, Engine } from '../engine.ts'
import { errorText, type Log } from '../log.ts'
import { abortable, requestAborted } from './abortable.ts'
import type { AdapterDemand } from './adapter-demand.ts'
import type { AdapterTarget } from './base-shape.ts'
import { packContent, packFileBytes } from './pack-file.ts'
import { Places } from './places.ts'
import { type SlotPin, SlotTable } from './slot-table.ts'

/**
 * Copies at once: one already takes most of the memory's bandwidth, and each holds one of the four
 * pool threads that a step needs too.
 */
const COPIES_MAX = 2

export interface PinnedSlot extends SlotPin {
  /** Microseconds of the load, for the first pin that is given out after it; 0 for others. */
  readonly swapUs: number
  readonly packBytes: number
  readonly digest: string
  /** Names what was copied into the slot, to the bit. */
  readonly content: string
  /** The slot holds that very load still, and this pin has not been released. */
  isCurrent(): boolean
  /** Idempotent. */
  release(): void
}

/** What a load left in a slot. */
interface Filling {
  readonly digest: string
  readonly content: string
  readonly packBytes: number
  /** What of the load's time no pin carries yet. */
  uncarriedUs: number
}

/** One holder's share of a pin. */
interface Hold {
  release(): void
  isReleased(): boolean
}

interface Waiter {
  readonly image: AdapterImage
  grant(pin: SlotPin): void
}

export interface SlotPoolOptions {
  readonly engine: Pick<AdapterTarget, 'limits'> & Pick<Engine, 'loadSlot' | 'clearSlot'>
  readonly clock: Clock
  readonly log: Log
  readonly demand: AdapterDemand
}

export class SlotPool {
  readonly #options: SlotPoolOptions
  readonly #table: SlotTable
  /** By slot. */
  readonly #loads = new Map<number, Promise<Filling>>()
  /** By slot; of those that hold an adapter. */
  readonly #fillings = new Map<number, Filling>()
  #unusedLoadUs = 0
  #evictions = 0
  readonly #copies = new Places(COPIES_MAX)
  #waiting: Waiter[] = []

  constructor(options: SlotPoolOptions) {
    this.#options = options
    this.#table = new SlotTable(options.engine.limits.slotCount)
  }

  isResident(digest: string): boolean {
    return this.#table.isResident(digest)
  }

  residents(): string[] {
    return this.#table.residents()
  }

  /** Of loads that failed, or whose adapter left its slot before anybody had a pin on it. */
  get unusedLoadUs(): number {
    return this.#unusedLoadUs
  }

  /** Adapters that gave up their slot for another, since the start. */
  get evictions(): number {
    return this.#evictions
  }

  /** Resident, or on its way into a slot. */
  isHeld(digest: string): boolean {
    return this.#table.isHeld(digest)
  }

  /**
   * Begins to load the adapter into a slot that nobody needs, for requests that wait for a
   * sequence; does nothing where there is none. Nobody is told: whoever needs it joins or loads.
   */
  stage(image: AdapterImage): void {
    const { demand } = this.#options
    const slot = this.#pickFree()
    const held = slot === null ? null : this.#table.digestOf(slot)
    if (slot === null || (held !== null && demand.isWaitedFor(held))) return
    const pin = this.#startLoad(slot, image)
    const unpin = (): void => {
      if (this.#table.unpin(pin)) this.#grantWaiting()
    }
    this.#loads.get(slot)?.then(unpin, unpin)
  }

  /** A pin on the adapter's slot, at once; null when it is not resident. */
  joinResident(digest: string): PinnedSlot | null {
    if (!this.#table.isResident(digest)) return null
    const pin = this.#table.pin(digest)
    return pin === null ? null : this.#toPinned(pin, this.#toHold(pin))
  }

  /** A pin on the adapter's slot if it is resident or loading; null when it must be loaded. */
  join(digest: string, signal: AbortSignal): Promise<PinnedSlot> | null {
    const pin = this.#table.pin(digest)
    return pin === null ? null : this.#settle(pin, signal)
  }

  /** Loads the adapter as soon as a slot is free, unless somebody else did so in the meantime. */
  async load(image: AdapterImage, signal: AbortSignal): Promise<PinnedSlot> {
    const pin = this.#tryGrant(image) ?? (await this.#waitForSlot(image, signal))
    return this.#settle(pin, signal)
  }

  async #settle(pin: SlotPin, signal: AbortSignal): Promise<PinnedSlot> {
    const hold = this.#toHold(pin)
    try {
      const load = this.#loads.get(pin.slot)
      if (load !== undefined) await abortable(load, signal)
      // The abort may have come between the end of the load and this turn.
      if (signal.aborted) throw requestAborted()
      return this.#toPinned(pin, hold)
    } catch (error) {
      hold.release()
      throw error
    }
  }

  #toPinned(pin: SlotPin, hold: Hold): PinnedSlot {
    const filling = this.#fillings.get(pin.slot)
    if (filling === undefined) throw new Error('a pinned slot holds nothing')
    const { digest, content, packBytes, uncarriedUs: swapUs } = filling
    filling.uncarriedUs = 0
    const isCurrent = (): boolean => !hold.isReleased() && this.#table.holds(pin, digest)
    return { ...pin, digest, content, swapUs, packBytes, isCurrent, release: hold.release }
  }

  #toHold(pin: SlotPin): Hold {
    let isReleased = false
    const release = (): void => {
      if (isReleased) return
      isReleased = true
      if (this.#table.unpin(pin)) this.#grantWaiting()
    }
    return { release, isReleased: () => isReleased }
  }

  #waitForSlot(image: AdapterImage, signal: AbortSignal): Promise<SlotPin> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(requestAborted())
      const leave = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter)
        reject(requestAborted())
      }
      const waiter: Waiter = {
        image,
        grant: (pin) => {
          signal.removeEventListener('abort', leave)
          resolve(pin)
        },
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiter)
    })
  }

  #grantWaiting(): void {
    // Not only the first: one further back may want an adapter that is being loaded by now.
    this.#waiting = this.#waiting.filter((waiter) => {
      const pin = this.#tryGrant(waiter.image)
      if (pin !== null) waiter.grant(pin)
      return pin === null
    })
  }

  #tryGrant(image: AdapterImage): SlotPin | null {
    const { digest } = image.manifest
    const joined = this.#table.pin(digest)
    if (joined !== null) return joined
    const slot = this.#pickFree()
    return slot === null ? null : this.#startLoad(slot, image)
  }

  #pickFree(): number | null {
    const { demand } = this.#options
    return this.#table.pickFree((digest) => demand.worth(digest, demand.refillMs(digest)))
  }

  /** Evicts what the slot holds, and pins the slot for the loader. */
  #startLoad(slot: number, image: AdapterImage): SlotPin {
    const evicted = this.#table.digestOf(slot)
    if (evicted !== null) {
      this.#options.demand.evicted(evicted)
      this.#evictions += 1
      this.#unusedLoadUs += this.#fillings.get(slot)?.uncarriedUs ?? 0
      this.#fillings.delete(slot)
      this.#table.startEvicting(slot)
      this.#clear(slot)
      this.#table.finishEvicting(slot)
    }
    const pin = this.#table.startLoading(slot, image.manifest.digest)
    // In a later microtask: the load must be in the map before it can end.
    const load = Promise.resolve().then(() => this.#load(slot, image))
    this.#loads.set(slot, load)
    // Whoever waits for it hears of a failure; when all have left, nobody needs to.
    load.catch(() => {})
    return pin
  }

  async #load(slot: number, image: AdapterImage): Promise<Filling> {
    const { engine, clock } = this.#options
    const startedUs = clock.nowUs()
    try {
      await this.#copies.run({ isUrgent: true }, () => engine.loadSlot(slot, image))
      this.#table.finishLoading(slot)
      const uncarriedUs = Math.round(clock.nowUs() - startedUs)
      const { manifest } = image
      const packBytes = packFileBytes(manifest)
      const content = packContent(manifest)
      const filling = { digest: manifest.digest, content, packBytes, uncarriedUs }
      this.#fillings.set(slot, filling)
      return filling
    } catch (error) {
      this.#unusedLoadUs += Math.round(clock.nowUs() - startedUs)
      this.#table.fail(slot)
      this.#clear(slot)
      this.#table.finishFailure(slot)
      throw error
    } finally {
      this.#loads.delete(slot)
      this.#grantWaiting()
    }
  }

  /** Not needed for safety, since no row names the slot: it makes a bug show as an empty slot. */
  #clear(slot: number): void {
    try {
      this.#options.engine.clearSlot(slot)
    } catch (error) {
      this.#options.log('warn', 'slot not cleared', { slot, reason: errorText(error) })
    }
  }
}
