/**
 * What the scheduler needs of the adapter tiers. Implemented by adapters/adapter-cache.ts, and by a
 * scripted one in the simulation.
 */
import type { AdapterSource } from '../protocol.ts'

/** A pinned slot: nothing evicts its adapter until `release`. */
export interface SlotLease {
  readonly slot: number
  /** Grows with every load into the slot. */
  readonly generation: number
  readonly source: AdapterSource
  /**
   * Microseconds of the load into the slot. One lease a load carries them, the first that is given
   * out after it, whether its owner waited or the load ran ahead of it; all others carry 0.
   */
  readonly swapUs: number
  /** Size of the adapter's pack file. */
  readonly packBytes: number
  /** Of the adapter in the slot. */
  readonly digest: string
  /** Names what is in the slot, to the bit: weights, ranks, scales, base. */
  readonly content: string
  /** The slot holds that very load, and the lease has not been released. Asked before each step. */
  isCurrent(): boolean
  /** Idempotent. */
  release(): void
}

export interface HeldAdapter {
  readonly digest: string
  readonly tier: 'slot' | 'ram' | 'disk'
}

export interface AdapterPort {
  /**
   * Rejects with `adapter_not_found`, `adapter_invalid`, `store_unavailable` or
   * `adapter_load_failed`, or on abort.
   */
  acquire(digest: string, signal: AbortSignal): Promise<SlotLease>
  /** At once, where the adapter is in its slot; null = it takes `acquire`. */
  acquireResident(digest: string): SlotLease | null
  /** Resolves when the adapter is in RAM (or a slot), from where a load takes milliseconds. */
  prefetch(digest: string): Promise<void>
  /** May be asked for soon: as prefetch, behind everything that is needed now, or dropped. */
  hint(digest: string): Promise<void>
  /**
   * Begins to load an adapter that is in RAM into a slot that nobody needs, if there is one.
   * Returns at once; `acquire` finds the adapter there, or does without.
   */
  stage(digest: string): void
  /** A queued request needs it: given up last, in every tier, until the returned call. */
  wait(digest: string): () => void
  /** Where the adapter is right now. */
  locate(digest: string): Exclude<AdapterSource, 'none'>
  /** Microseconds, ever growing, of loads that failed or were given up before any lease. */
  readonly unusedSwapUs: number
  /** Adapters that gave up their slot for another, ever growing. */
  readonly evictions: number
  /** Every adapter held here, with the fastest tier that holds it. */
  residency(): readonly HeldAdapter[]
}
