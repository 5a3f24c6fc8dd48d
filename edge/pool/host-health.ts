/**
 * Which hosts this edge trusts, from what it saw of them itself; other edges have their own view,
 * so one whose network is broken harms nobody's but its own. Time is given, nothing is asked here.
 *
 *     in ── failed ──▶ doubted (asked last, probed at once) ── well ──▶ in
 *     in, doubted ── probe dead, or failures in a row ──▶ ejected
 *     ejected ── its time is over, or it is heard of ──▶ probe due ── well ──▶ in, slow start
 *     any ── a new start of the host ──▶ in, slow start
 */
import {
  EJECTION_JITTER,
  EJECTION_MS_MAX,
  EJECTION_MS_MIN,
  EJECTIONS_FORGOTTEN_MS,
  FAILURES_IN_ROW_MAX,
  HEALTH_KEPT_MS,
  PROBE_PAUSE_MS,
  SLOW_START_MS,
  SLOW_START_SHARE,
} from '../limits.ts'

/** What a host says of itself: `unwell` lives and should get no requests, `dead` says nothing. */
export type Life = 'well' | 'unwell' | 'dead'
export type EjectionReason = 'dead' | 'unwell' | 'failing'

export interface Standing {
  /** Gets no requests while half of the pool stands. */
  readonly isEjected: boolean
  /** Asked after the others. */
  readonly isDoubted: boolean
  /** Part of its capacity that it may be given now, above 0 and up to 1. */
  readonly share: number
}

export interface HostHealthOptions {
  /** Monotonic. */
  readonly nowMs: () => number
  /** 0 ≤ x < 1. */
  readonly random: () => number
  readonly onEjected?: (hostId: string, reason: EjectionReason, forMs: number) => void
  readonly onReturned?: (hostId: string) => void
}

interface HostRecord {
  epoch: number
  heardMs: number
  failuresInRow: number
  isDoubted: boolean
  ejection: { readonly reason: EjectionReason; readonly untilMs: number } | null
  /** In a row, each twice as long as the one before. */
  ejections: number
  /** Start of the slow start. */
  inSinceMs: number
  probedMs: number
  /** Heard of since it was ejected for silence: it may be back before its time. */
  isBeating: boolean
}

const UNKNOWN: Standing = { isEjected: false, isDoubted: false, share: 1 }

export class HostHealth {
  readonly #options: HostHealthOptions
  readonly #records = new Map<string, HostRecord>()

  constructor(options: HostHealthOptions) {
    this.#options = options
  }

  /** A heartbeat, whichever edge it came to. */
  heard(hostId: string, epoch: number, uptimeMs: number): void {
    const nowMs = this.#options.nowMs()
    const known = this.#records.get(hostId)
    if (known !== undefined && known.epoch >= epoch) {
      known.heardMs = nowMs
      known.isBeating = true
      return
    }
    this.#forgetTheLost(nowMs)
    this.#records.set(hostId, {
      epoch,
      heardMs: nowMs,
      failuresInRow: 0,
      isDoubted: false,
      ejection: null,
      ejections: known?.ejections ?? 0,
      inSinceMs: nowMs - uptimeMs,
      probedMs: Number.NEGATIVE_INFINITY,
      isBeating: true,
    })
  }

  /** The host answered a request. */
  succeeded(hostId: string): void {
    const record = this.#records.get(hostId)
    if (record === undefined) return
    record.failuresInRow = 0
    record.isDoubted = false
    if (record.ejection !== null) this.#return(hostId, record)
  }

  /** A call did not reach the host, broke off, or failed for a reason of the host's own. */
  failed(hostId: string): void {
    const record = this.#records.get(hostId)
    if (record === undefined) return
    record.failuresInRow += 1
    record.isDoubted = true
    if (record.failuresInRow >= FAILURES_IN_ROW_MAX) this.#eject(hostId, record, 'failing')
  }

  /** The host was asked how it is. */
  probed(hostId: string, life: Life): void {
    const record = this.#records.get(hostId)
    if (record === undefined) return
    record.probedMs = this.#options.nowMs()
    if (life !== 'well') {
      this.#eject(hostId, record, life)
      return
    }
    record.isDoubted = false
    if (record.ejection !== null && this.#mayReturn(record)) this.#return(hostId, record)
  }

  standing(hostId: string): Standing {
    const record = this.#records.get(hostId)
    if (record === undefined) return UNKNOWN
    const age = (this.#options.nowMs() - record.inSinceMs) / SLOW_START_MS
    return {
      isEjected: record.ejection !== null,
      isDoubted: record.isDoubted,
      share: Math.min(1, SLOW_START_SHARE + (1 - SLOW_START_SHARE) * Math.max(0, age)),
    }
  }

  /** Whether it is time to ask the host how it is. */
  isProbeDue(hostId: string): boolean {
    const record = this.#records.get(hostId)
    if (record === undefined) return false
    if (this.#options.nowMs() - record.probedMs < PROBE_PAUSE_MS) return false
    return record.ejection === null ? record.isDoubted : this.#mayReturn(record)
  }

  /** A host that was away for a while comes back as what it was; one that is gone does not. */
  #forgetTheLost(nowMs: number): void {
    for (const [hostId, { heardMs }] of this.#records) {
      if (nowMs - heardMs > HEALTH_KEPT_MS) this.#records.delete(hostId)
    }
  }

  /** One that failed while it called itself well serves its time; the others were only away. */
  #mayReturn({ ejection, isBeating }: HostRecord): boolean {
    if (ejection === null || this.#options.nowMs() >= ejection.untilMs) return true
    return isBeating && ejection.reason !== 'failing'
  }

  #eject(hostId: string, record: HostRecord, reason: EjectionReason): void {
    const { nowMs, random, onEjected } = this.#options
    const isOut = record.ejection !== null
    // Requests that were under way fail one after the other: that is one ejection.
    if (isOut && !this.#mayReturn(record)) return
    if (!isOut && nowMs() - record.inSinceMs >= EJECTIONS_FORGOTTEN_MS) record.ejections = 0
    const fullMs = Math.min(EJECTION_MS_MAX, EJECTION_MS_MIN * 2 ** record.ejections)
    const forMs = fullMs * (1 + EJECTION_JITTER * (2 * random() - 1))
    record.ejection = { reason, untilMs: nowMs() + forMs }
    record.ejections += 1
    record.isBeating = false
    if (!isOut) onEjected?.(hostId, reason, forMs)
  }

  #return(hostId: string, record: HostRecord): void {
    record.ejection = null
    record.isDoubted = false
    record.failuresInRow = 0
    record.inSinceMs = this.#options.nowMs()
    this.#options.onReturned?.(hostId)
  }
}

/**
 * Without the ejected ones, unless they are more than half: then the fault may be this edge's own,
 * and all are used again, those that were ejected after the others.
 */
export function withoutEjected<T>(hosts: readonly T[], isEjected: (host: T) => boolean): T[] {
  const standing = hosts.filter((host) => !isEjected(host))
  return hosts.length - standing.length > hosts.length / 2 ? [...hosts] : standing
}
