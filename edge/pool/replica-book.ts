/**
 * How many hosts share each adapter: more while its demand lasts, fewer when it has been low for a
 * while. Demand is smoothed, fast upwards and slowly downwards, and a host is given up well below
 * where it was gained, so that noise moves nothing: each host that is gained loads the adapter.
 */
import { putLast } from '../bounded-map.ts'
import {
  PLACEMENTS_MAX,
  REPLICA_FALL_MS,
  REPLICA_KEEP_SHARE,
  REPLICA_RISE_MS,
  REPLICA_SHARE,
} from '../limits.ts'
import { replicasFor } from './pick-host.ts'

const SAMPLE_MS_MAX = 1000

interface Entry {
  /** Smoothed demand, in sequences. */
  level: number
  replicas: number
  atMs: number
}

export class ReplicaBook {
  readonly #nowMs: () => number
  /** Of adapters that need more than one host, or soon may; longest unasked first. */
  readonly #entries = new Map<string, Entry>()

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** `demand` in sequences of the whole pool, `hostCapacity` in those of a host. */
  replicas(key: string, demand: number, hostCapacity: number): number {
    const known = this.#entries.get(key)
    if (known === undefined && replicasFor(demand, hostCapacity) === 1) return 1
    const nowMs = this.#nowMs()
    const entry = known ?? { level: 0, replicas: 1, atMs: nowMs }
    const isRising = demand > entry.level
    const spanMs = isRising ? REPLICA_RISE_MS : REPLICA_FALL_MS
    // What was between two questions far apart nobody knows: it was no lasting demand.
    const passedMs = Math.min(nowMs - entry.atMs, isRising ? SAMPLE_MS_MAX : Infinity)
    entry.level += (demand - entry.level) * (1 - Math.exp(-passedMs / spanMs))
    entry.atMs = nowMs
    const wanted = replicasFor(entry.level, hostCapacity)
    const kept = replicasFor(entry.level / REPLICA_KEEP_SHARE, hostCapacity)
    entry.replicas = Math.max(wanted, Math.min(entry.replicas, kept))
    const isNeeded = entry.replicas > 1 || demand > REPLICA_SHARE * hostCapacity
    if (isNeeded) putLast(this.#entries, key, entry, PLACEMENTS_MAX)
    else this.#entries.delete(key)
    return entry.replicas
  }
}
