/**
 * Which adapters a simulated host holds where, and what its last heartbeats said of that. Edges
 * decide by heartbeats, which are up to two seconds old, so what was true then is kept: for each
 * adapter its last three tiers, by how many heartbeats there had been when each came to be.
 */
import type { AdapterTier } from '../../edge/pool/pick-host.ts'

export interface Entry {
  now: AdapterTier | null
  since: number
  before: AdapterTier | null
  beforeSince: number
  earlier: AdapterTier | null
}

/**
 * Of all hosts together, by adapter: edges ask every host for one adapter after the other, and most
 * hosts do not have it.
 */
export class ResidencyIndex {
  readonly #byDigest = new Map<string, Map<number, Entry>>()
  /** Asked for last. */
  #digest = ''
  #holders: Map<number, Entry> | undefined

  entryOf(digest: string, host: number): Entry | undefined {
    if (digest !== this.#digest) {
      this.#digest = digest
      this.#holders = this.#byDigest.get(digest)
    }
    return this.#holders?.get(host)
  }

  add(digest: string, host: number, entry: Entry): void {
    const holders = this.#byDigest.get(digest) ?? new Map<number, Entry>()
    this.#byDigest.set(digest, holders.set(host, entry))
    this.#digest = ''
  }

  delete(digest: string, host: number): void {
    this.#byDigest.get(digest)?.delete(host)
  }
}

export class Residency {
  readonly #index: ResidencyIndex
  readonly #host: number
  /** Adapters that it has or had. */
  readonly #digests = new Set<string>()
  #beats = 0

  constructor(index: ResidencyIndex, host: number) {
    this.#index = index
    this.#host = host
  }

  /** The number of the heartbeat that is sent now; it tells everything set so far. */
  beat(): number {
    this.#beats += 1
    return this.#beats
  }

  set(digest: string, tier: AdapterTier | null): void {
    const entry = this.#index.entryOf(digest, this.#host)
    if (entry === undefined) {
      if (tier === null) return
      const unknown = { before: null, beforeSince: -1, earlier: null }
      this.#index.add(digest, this.#host, { now: tier, since: this.#beats, ...unknown })
      this.#digests.add(digest)
      return
    }
    if (entry.since !== this.#beats) {
      entry.earlier = entry.before
      entry.before = entry.now
      entry.beforeSince = entry.since
      entry.since = this.#beats
    }
    entry.now = tier
  }

  /** As heartbeat number `beat` told it. */
  tierAt(digest: string, beat: number): AdapterTier | null {
    const entry = this.#index.entryOf(digest, this.#host)
    if (entry === undefined) return null
    if (entry.since < beat) return entry.now
    return entry.beforeSince < beat ? entry.before : entry.earlier
  }

  /** The machine starts anew: nothing but what its disk kept. */
  restart(onDisk: Iterable<string>): void {
    for (const digest of this.#digests) this.#index.delete(digest, this.#host)
    this.#digests.clear()
    for (const digest of onDisk) this.set(digest, 'disk')
  }
}
