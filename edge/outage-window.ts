/**
 * How long what the database once said stands in for it while it does not answer: known within
 * OUTAGE_SEEN_MS_MAX before the outage, and no longer than OUTAGE_GRACE_MS into it. The one place
 * that decides this; afterwards the edge refuses rather than trusts its memory. An edge that is cut
 * off from a database which others reach refuses at once: what it remembers may have been revoked.
 */
import { OUTAGE_GRACE_MS, OUTAGE_SEEN_MS_MAX } from './limits.ts'

export interface OutageWindowOptions {
  readonly nowMs: () => number
  /** How long the database is known to be away; null while it answers. */
  readonly downForMs: () => number | null
  /**
   * Whether others reach a database that this edge has not reached since `startMs` (`nowMs`'s
   * clock); absent = nobody says.
   */
  readonly isCutOff?: (startMs: number) => boolean
}

export class OutageWindow {
  readonly #options: OutageWindowOptions
  #failingSinceMs: number | null = null

  constructor(options: OutageWindowOptions) {
    this.#options = options
  }

  /** What was asked at `askedMs` got no answer. */
  failed(askedMs: number): void {
    this.#failingSinceMs ??= askedMs
  }

  answered(): void {
    this.#failingSinceMs = null
  }

  /** Whether something known at `knownMs` may be used without asking; without an outage, too. */
  covers(knownMs: number, seenMsMax = OUTAGE_SEEN_MS_MAX): boolean {
    const { nowMs, downForMs, isCutOff = () => false } = this.#options
    const now = nowMs()
    const noticedMs = now - (downForMs() ?? 0)
    const startMs = Math.min(noticedMs, this.#failingSinceMs ?? noticedMs)
    if (startMs < now && isCutOff(startMs)) return false
    return knownMs >= startMs - seenMsMax && now - startMs < OUTAGE_GRACE_MS
  }
}
