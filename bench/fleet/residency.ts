/**
 * Which adapters a simulated host holds where, and what its last heartbeats said of that. Edges
 * decide by heartbeats, which are up to two seconds old, so what was true then is kept: for each
 * adapter its last three tiers, by how many heartbeats there had been when each came to be.
 */
import type { AdapterTier } from '../../edge/pool/pick-host.ts'

interface Entry {
  now: AdapterTier | null
  since: number
  before: AdapterTier | null
  beforeSince: number
  earlier: AdapterTier | null
}

export class Residency {
  readonly #entries = new Map<string, Entry>()
  #beats = 0

  /** The number of the heartbeat that is sent now; it tells everything set so far. */
  beat(): number {
    this.#beats += 1
    return this.#beats
  }

  set(digest: string, tier: AdapterTier | null): void {
    const entry = this.#entries.get(digest)
    if (entry === undefined) {
      if (tier === null) return
      const unknown = { before: null, beforeSince: -1, earlier: null }
      this.#entries.set(digest, { now: tier, since: this.#beats, ...unknown })
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
    const entry = this.#entries.get(digest)
    if (entry === undefined) return null
    if (entry.since < beat) return entry.now
    return entry.beforeSince < beat ? entry.before : entry.earlier
  }

  /** The machine starts anew: nothing but what its disk kept. */
  restart(onDisk: Iterable<string>): void {
    this.#entries.clear()
    for (const digest of onDisk) this.set(digest, 'disk')
  }
}
