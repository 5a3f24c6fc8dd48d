/**
 * Which hosts this edge trusts, from what it saw of them itself; other edges have their own view,
 * so one whose network is broken harms nobody's but its own. Time is given, nothing is asked here.
 *
 *     in ── failed ──▶ doubted (asked last, probed at once) ── well ──▶ in
 *     in, doubted ── probe dead, or failures in a row ──▶ ejected
 *     ejected ── its time is over, or it is heard of ──▶ probe due ── well ──▶ in, slow start
 *     any ── a new start of the host ──▶ in, slow start
 *
 * A host that drains is not sick: it says 503 of itself and closes its sockets in the end, and none
 * of that counts. Nor does what an earlier start of it did to calls that it had begun.
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
  /** It takes nothing new, and may end. */
  isDraining: boolean
  /** When this start of it began to take requests. */
  bornMs: number
}

/** What a report says of a host. */
export interface Sign {
  readonly epoch: number
  readonly uptimeMs: number
  readonly isDraining: boolean
}

const UNKNOWN: Standing = { isEjected: false, isDoubted: false, share: 1 }

export class HostHealth {
  readonly #options: HostHealthOptions
  readonly #records = new Map<string, HostRecord>()

  constructor(options: HostHealthOptions) {
    this.#options = options
  }

  /** A heartbeat, whichever edge it came to. True = the first of a new start of the host. */
  heard(hostId: string, { epoch, uptimeMs, isDraining }: Sign): boolean {
    const nowMs = this.#options.nowMs()
    const known = this.#records.get(hostId)
    if (known !== undefined && known.epoch >= epoch) {
      known.heardMs = nowMs
      known.isBeating = true
      known.isDraining = isDraining
      if (isDraining) excuse(known)
      return false
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
      isDraining,
      bornMs: nowMs - uptimeMs,
    })
    return known !== undefined
  }

  /** The host refused a request since it drains; its next report counts again. */
  drains(hostId: string): void {
    const record = this.#records.get(hostId)
    if (record === undefined) return
    record.isDraining = true
    excuse(record)
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
  failed(hostId: string, begunMs: number): void {
    const record = this.#records.get(hostId)
    if (record === undefined || record.isDraining || begunMs < record.bornMs) return
    record.failuresInRow += 1
    record.isDoubted = true
    if (record.failuresInRow >= FAILURES_IN_ROW_MAX) this.#eject(hostId, record, 'failing')
  }

  /** The host was asked how it is. */
  probed(hostId: string, life: Life, askedMs: number): void {
    const record = this.#records.get(hostId)
    if (record === undefined || record.isDraining || askedMs < record.bornMs) return
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
    if (record === undefined || record.isDraining) return false
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

/** A probe that came before the report found it unwell because it drains. */
function excuse(record: HostRecord): void {
  if (record.ejection?.reason !== 'unwell') return
  record.ejection = null
  record.ejections -= 1
}

/**
 * Without the ejected ones, unless they are more than half: then the fault may be this edge's own,
 * and all are used again, those that were ejected after the others.
 */
export function withoutEjected<T>(hosts: readonly T[], isEjected: (host: T) => boolean): T[] {
  const standing = hosts.filter((host) => !isEjected(host))
  return hosts.length - standing.length > hosts.length / 2 ? [...hosts] : standing
}
