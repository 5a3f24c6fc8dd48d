/**
 * An AdapterPort on a plain slot table, for the simulation: loads take as long, and fail as often,
 * as the script says. Keeps the port's promise that a pinned slot is never loaded over, and counts
 * what is pinned so that leaks show.
 */
import type { Clock } from '../../clock.ts'
import { sleep } from '../../clock.ts'
import type { AdapterImage, Engine } from '../../engine.ts'
import { HostError } from '../../errors.ts'
import type { AdapterPort, HeldAdapter, SlotLease } from '../../scheduler/adapter-port.ts'
import { payloadIdentity } from './fake-engine.ts'

export interface AdapterScript {
  readonly payload: Uint8Array
  readonly fetchMs: number
  readonly loadMs: number
  readonly fails: 'never' | 'fetch' | 'load'
}

interface Slot {
  digest: string | null
  /** Of the payload. */
  content: string
  pins: number
  generation: number
  usedAt: number
  /** Of the load that no lease carries yet. */
  uncarriedUs: number
}

export class ScriptedAdapters implements AdapterPort {
  readonly #engine: Engine
  readonly #clock: Clock
  readonly #script: ReadonlyMap<string, AdapterScript>
  readonly #slots: Slot[]
  readonly #inRam = new Set<string>()
  readonly #staging = new Set<string>()
  /** Queued requests by adapter. */
  readonly #waits = new Map<string, number>()
  readonly #waiters: (() => void)[] = []
  #uses = 0
  #loadedUs = 0
  unusedSwapUs = 0
  evictions = 0

  constructor(engine: Engine, clock: Clock, script: ReadonlyMap<string, AdapterScript>) {
    this.#engine = engine
    this.#clock = clock
    this.#script = script
    this.#slots = Array.from({ length: engine.limits.slotCount }, () => ({
      digest: null,
      content: '',
      pins: 0,
      generation: 0,
      usedAt: 0,
      uncarriedUs: 0,
    }))
  }

  /** Microseconds of all loads, whatever became of them. */
  get loadedUs(): number {
    return this.#loadedUs
  }

  /** Microseconds of loads that no lease carries yet. */
  get uncarriedUs(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.uncarriedUs, 0)
  }

  get pins(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.pins, 0)
  }

  /** As a bug would: gives the adapter's slot up, whoever holds a lease on it. */
  forgetPinned(digest: string): void {
    for (const slot of this.#slots) {
      if (slot.digest !== digest) continue
      slot.digest = null
      slot.generation += 1
    }
  }

  locate(digest: string): 'slot' | 'ram' | 'store' {
    if (this.#slots.some((slot) => slot.digest === digest)) return 'slot'
    return this.#inRam.has(digest) ? 'ram' : 'store'
  }

  residency(): HeldAdapter[] {
    return [...this.#inRam].map((digest) => ({
      digest,
      tier: this.locate(digest) === 'slot' ? 'slot' : 'ram',
    }))
  }

  async prefetch(digest: string): Promise<void> {
    const script = this.#script.get(digest)
    if (script === undefined) throw new HostError('adapter_not_found', 'no such adapter')
    if (this.#inRam.has(digest)) return
    await sleep(this.#clock, script.fetchMs)
    if (script.fails === 'fetch') throw new HostError('adapter_load_failed', 'the store failed')
    this.#inRam.add(digest)
  }

  hint(digest: string): Promise<void> {
    return this.prefetch(digest)
  }

  /** A load ahead of its request that nobody waits for: as acquired and given back at once. */
  stage(digest: string): void {
    const isFree = this.#slots.some((slot) => slot.pins === 0 && !this.#isWaitedFor(slot.digest))
    if (this.locate(digest) !== 'ram' || this.#staging.has(digest) || !isFree) return
    this.#staging.add(digest)
    const stop = new AbortController()
    this.#acquire(digest, stop.signal, 'stage')
      .then((lease) => lease.release())
      .catch(() => {})
      .finally(() => this.#staging.delete(digest))
  }

  wait(digest: string): () => void {
    this.#waits.set(digest, (this.#waits.get(digest) ?? 0) + 1)
    let isOver = false
    return () => {
      if (!isOver) this.#waits.set(digest, (this.#waits.get(digest) ?? 1) - 1)
      isOver = true
    }
  }

  #isWaitedFor(digest: string | null): boolean {
    return digest !== null && (this.#waits.get(digest) ?? 0) > 0
  }

  acquireResident(digest: string): SlotLease | null {
    const resident = this.#slots.findIndex((slot) => slot.digest === digest)
    return resident < 0 ? null : this.#lease(digest, resident, 'request')
  }

  async acquire(digest: string, signal: AbortSignal): Promise<SlotLease> {
    return this.#acquire(digest, signal, 'request')
  }

  async #acquire(digest: string, signal: AbortSignal, by: 'request' | 'stage'): Promise<SlotLease> {
    await this.prefetch(digest)
    while (!signal.aborted) {
      const resident = this.#slots.findIndex((slot) => slot.digest === digest)
      if (resident >= 0) return this.#lease(digest, resident, by)
      const free = this.#slots
        .map((slot, index) => ({ slot, index }))
        .filter(({ slot }) => slot.pins === 0)
        .sort((a, b) => a.slot.usedAt - b.slot.usedAt)[0]
      if (free !== undefined) return this.#load(digest, free.index, by)
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
    throw new HostError('request_aborted', 'nobody waits for it any more')
  }

  async #load(digest: string, index: number, by: 'request' | 'stage'): Promise<SlotLease> {
    const script = this.#script.get(digest)
    const slot = this.#slots[index]
    if (script === undefined || slot === undefined) throw new Error('no such slot or adapter')
    const loadUs = Math.round(script.loadMs * 1000)
    this.#loadedUs += loadUs
    if (slot.digest !== null) this.evictions += 1
    this.unusedSwapUs += slot.uncarriedUs
    slot.uncarriedUs = 0
    slot.pins += 1
    slot.digest = null
    slot.generation += 1
    try {
      await sleep(this.#clock, script.loadMs)
      if (script.fails === 'load') throw new HostError('adapter_load_failed', 'the load failed')
      // The fake engine reads the payload alone.
      await this.#engine.loadSlot(index + 1, { payload: script.payload } as AdapterImage)
      slot.digest = digest
      slot.content = payloadIdentity(script.payload)
      slot.uncarriedUs = loadUs
      return this.#lease(digest, index, by)
    } catch (error) {
      this.unusedSwapUs += loadUs
      throw error
    } finally {
      slot.pins -= 1
      for (const resolve of this.#waiters.splice(0)) resolve()
    }
  }

  /** A load that is staged is carried by whoever comes for the adapter. */
  #lease(digest: string, index: number, by: 'request' | 'stage'): SlotLease {
    const slot = this.#slots[index]
    if (slot === undefined) throw new Error('no such slot')
    slot.pins += 1
    slot.usedAt = this.#uses++
    const swapUs = by === 'request' ? slot.uncarriedUs : 0
    slot.uncarriedUs -= swapUs
    let isReleased = false
    const release = (): void => {
      if (isReleased) return
      isReleased = true
      slot.pins -= 1
      for (const resolve of this.#waiters.splice(0)) resolve()
    }
    const { generation, content } = slot
    const packBytes = this.#script.get(digest)?.payload.length ?? 0
    const isCurrent = (): boolean =>
      !isReleased && slot.generation === generation && slot.digest === digest
    const place = { slot: index + 1, generation, digest, content, isCurrent }
    return { ...place, source: 'ram', swapUs, packBytes, release }
  }
}
