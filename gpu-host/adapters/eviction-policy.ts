/**
 * Pure: which resident adapter is worth least to keep in a slot. Worth = how often it was used of
 * late × what it would cost to bring back. Uses are counted for adapters that are not resident too,
 * so one that returns is not a newcomer; a count halves every so many uses of any adapter, so old
 * fame fades. Chosen by simulation: see `bench policy`.
 */
export interface EvictionPolicy {
  /** The adapter was asked for, resident or not. */
  used(digest: string): void
  /** It has left its slot. */
  evicted(digest: string): void
  /** Lowest goes first; `refillMs` = what bringing it back into a slot would take. */
  worth(digest: string, refillMs: number): number
}

interface UseCount {
  /** As of `at`. */
  uses: number
  at: number
}

/** Uses of any adapter, per slot, after which a count is worth half. */
const HALF_LIFE_USES_PER_SLOT = 8
/** Bound of the memory for counts; the one used longest ago is forgotten. */
const COUNTS_MAX = 16_384

export class DemandPolicy implements EvictionPolicy {
  readonly #halfLife: number
  /** Used longest ago first. */
  readonly #counts = new Map<string, UseCount>()
  #now = 0

  constructor(slotCount: number) {
    this.#halfLife = slotCount * HALF_LIFE_USES_PER_SLOT
  }

  used(digest: string): void {
    this.#now += 1
    const uses = this.#usesOf(digest) + 1
    this.#counts.delete(digest)
    this.#counts.set(digest, { uses, at: this.#now })
    if (this.#counts.size <= COUNTS_MAX) return
    const [oldest] = this.#counts.keys()
    if (oldest !== undefined) this.#counts.delete(oldest)
  }

  evicted(): void {}

  worth(digest: string, refillMs: number): number {
    return this.#usesOf(digest) * refillMs
  }

  #usesOf(digest: string): number {
    const count = this.#counts.get(digest)
    if (count === undefined) return 0
    return count.uses * 2 ** ((count.at - this.#now) / this.#halfLife)
  }
}
