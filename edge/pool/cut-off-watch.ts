/**
 * Whether this edge alone is cut off from the database. Hosts say with each heartbeat when an edge,
 * whichever, last stored one of theirs: where that goes on while this edge reaches no database,
 * there is one, and in it keys may be revoked that this edge still remembers. While the database
 * itself is away nobody can revoke anything, and what is remembered is safe to go by.
 */
import { CUT_OFF_AFTER_MS, CUT_OFF_LASTS_MS } from '../limits.ts'

/** Signs nearer to each other are one. */
const SIGN_INTERVAL_MS = 250
const SIGNS_MAX = 256

export class CutOffWatch {
  readonly #nowMs: () => number
  /** When others had the database's answer; oldest first. */
  readonly #signs: number[] = []

  /** @param nowMs monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** An edge stored something `agoMs` before now. */
  heard(agoMs: number): void {
    const atMs = this.#nowMs() - agoMs
    if (atMs < (this.#signs.at(-1) ?? Number.NEGATIVE_INFINITY) + SIGN_INTERVAL_MS) return
    this.#signs.push(atMs)
    if (this.#signs.length > SIGNS_MAX) this.#signs.shift()
  }

  /**
   * Others have had answers for a while in which this edge, since `startMs`, had none. One sign is
   * not enough: heartbeats arrive late, and the database may have gone right after it.
   */
  isCutOff(startMs: number): boolean {
    const first = this.#signs.find((atMs) => atMs > startMs + CUT_OFF_AFTER_MS)
    const last = this.#signs.at(-1)
    return first !== undefined && last !== undefined && last >= first + CUT_OFF_LASTS_MS
  }
}
