/**
 * How fast hosts are, beside each other: the time to the first token of requests that waited for
 * nothing. One that takes several times as long as its peers' median loses its share by degrees,
 * and gets it back by degrees when it is as fast as they are, or when nobody knows any more.
 */
import { PACE_KEPT_MS, PACE_SHARE_MIN, SLOW_FACTOR, SLOW_MS_MIN } from '../limits.ts'

interface Pace {
  /** Weighted average of the logarithms: one outlier among many says little. */
  logMs: number
  samples: number
  share: number
  sampledMs: number
}

/** Weight of the newest sample. */
const NEWEST = 0.2
/** Before that nothing is said of a host. */
const SAMPLES_MIN = 5
/** A slow sample takes a tenth, one that is not gives a tenth back. */
const STEP = 0.9

export class HostPace {
  readonly #nowMs: () => number
  readonly #paces = new Map<string, Pace>()

  /** `nowMs`: monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** A request that found its adapter resident and a sequence free had its first token after. */
  sampled(hostId: string, firstTokenMs: number): void {
    const logMs = Math.log(Math.max(1, firstTokenMs))
    const pace = this.#fresh(hostId) ?? { logMs, samples: 0, share: 1, sampledMs: 0 }
    pace.logMs += NEWEST * (logMs - pace.logMs)
    pace.samples += 1
    pace.sampledMs = this.#nowMs()
    this.#paces.set(hostId, pace)
    if (pace.samples < SAMPLES_MIN) return
    const share = this.#isSlow(hostId, pace) ? pace.share * STEP : pace.share / STEP
    pace.share = Math.min(1, Math.max(PACE_SHARE_MIN, share))
  }

  /** The host started anew: what was measured before says nothing of it. */
  forget(hostId: string): void {
    this.#paces.delete(hostId)
  }

  /** PACE_SHARE_MIN … 1. */
  shareOf(hostId: string): number {
    return this.#fresh(hostId)?.share ?? 1
  }

  #isSlow(hostId: string, pace: Pace): boolean {
    const peers = [...this.#paces.keys()]
      .filter((id) => id !== hostId)
      .map((id) => this.#fresh(id))
      .filter((peer) => peer !== null && peer.samples >= SAMPLES_MIN)
      .map((peer) => Math.exp(peer?.logMs ?? 0))
      .sort((a, b) => a - b)
    const median = peers[Math.floor((peers.length - 1) / 2)]
    if (median === undefined) return false
    const ms = Math.exp(pace.logMs)
    return ms > SLOW_FACTOR * median && ms > median + SLOW_MS_MIN
  }

  #fresh(hostId: string): Pace | null {
    const pace = this.#paces.get(hostId)
    if (pace === undefined) return null
    if (this.#nowMs() - pace.sampledMs <= PACE_KEPT_MS) return pace
    this.#paces.delete(hostId)
    return null
  }
}
