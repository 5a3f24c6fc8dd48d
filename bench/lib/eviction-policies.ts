/** What the host's own eviction policy is compared with. Textbook forms. */
import type { EvictionPolicy } from '../../gpu-host/adapters/eviction-policy.ts'

/** Least recently used. */
export class LruPolicy implements EvictionPolicy {
  readonly #usedAt = new Map<string, number>()
  #now = 0

  used(digest: string): void {
    this.#usedAt.set(digest, ++this.#now)
  }

  evicted(digest: string): void {
    this.#usedAt.delete(digest)
  }

  worth(digest: string): number {
    return this.#usedAt.get(digest) ?? 0
  }
}

/** Least frequently used while resident, with dynamic aging: newcomers start at the last victim. */
export class LfuAgingPolicy implements EvictionPolicy {
  readonly #worth = new Map<string, number>()
  #floor = 0

  used(digest: string): void {
    this.#worth.set(digest, (this.#worth.get(digest) ?? this.#floor) + 1)
  }

  evicted(digest: string): void {
    this.#floor = Math.max(this.#floor, this.worth(digest))
    this.#worth.delete(digest)
  }

  worth(digest: string): number {
    return this.#worth.get(digest) ?? 0
  }
}

/**
 * GreedyDual-Size-Frequency (Cherkasova 1998): floor at the last use + frequency × cost ÷ size.
 * Slots are of one size, so size is left out.
 */
export class GdsfPolicy implements EvictionPolicy {
  readonly #entries = new Map<string, { uses: number; floor: number; worth: number }>()
  #floor = 0

  used(digest: string): void {
    const uses = (this.#entries.get(digest)?.uses ?? 0) + 1
    this.#entries.set(digest, { uses, floor: this.#floor, worth: 0 })
  }

  evicted(digest: string): void {
    this.#floor = Math.max(this.#floor, this.#entries.get(digest)?.worth ?? 0)
    this.#entries.delete(digest)
  }

  worth(digest: string, refillMs: number): number {
    const entry = this.#entries.get(digest)
    if (entry === undefined) return 0
    entry.worth = entry.floor + entry.uses * refillMs
    return entry.worth
  }
}
