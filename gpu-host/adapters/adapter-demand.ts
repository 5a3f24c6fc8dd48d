/**
 * Who needs which adapter: what queued requests wait for now, and what was used of late. Slots and
 * RAM ask it what to give up. What somebody waits for is given up last, whatever it is worth.
 */
import type { EvictionPolicy } from './eviction-policy.ts'

/**
 * What it takes to bring an adapter back, in milliseconds of a host with 10 MB adapters: only the
 * proportions count.
 */
const COPY_MS = 1
const DISK_MS = 10
const STORE_MS = 60

export interface DemandTiers {
  readonly ram: { has(digest: string): boolean }
  readonly disk: { has(digest: string): boolean }
}

export class AdapterDemand {
  readonly #policy: EvictionPolicy
  readonly #tiers: DemandTiers
  /** Digest → queued requests that need it. */
  readonly #waiting = new Map<string, number>()

  constructor(policy: EvictionPolicy, tiers: DemandTiers) {
    this.#policy = policy
    this.#tiers = tiers
  }

  used(digest: string): void {
    this.#policy.used(digest)
  }

  /** It has left its slot. */
  evicted(digest: string): void {
    this.#policy.evicted(digest)
  }

  /** A request waits for it, until the returned function is called. */
  wait(digest: string): () => void {
    this.#waiting.set(digest, (this.#waiting.get(digest) ?? 0) + 1)
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      const left = (this.#waiting.get(digest) ?? 1) - 1
      if (left > 0) this.#waiting.set(digest, left)
      else this.#waiting.delete(digest)
    }
  }

  isWaitedFor(digest: string): boolean {
    return this.#waiting.has(digest)
  }

  worth(digest: string, refillMs: number): number {
    if (this.isWaitedFor(digest)) return Number.POSITIVE_INFINITY
    return this.#policy.worth(digest, refillMs)
  }

  /** From RAM, or from wherever it must come to RAM first, into a slot. */
  refillMs(digest: string): number {
    return this.#tiers.ram.has(digest) ? COPY_MS : COPY_MS + this.fetchMs(digest)
  }

  /** Into RAM, from below it. */
  fetchMs(digest: string): number {
    return this.#tiers.disk.has(digest) ? DISK_MS : STORE_MS
  }
}
