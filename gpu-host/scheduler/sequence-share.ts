/**
 * Pure: which part of a host's sequences a tenant may hold. Up to its share, what it would have
 * beside one more tenant of weight 1, it takes any that is free. Beyond that it leaves free what
 * the others ran at once of late and two more, as far as they do not run it now: they find room at
 * once when they come back, and what they do not use is not kept for ever.
 */

/** A tenant among those that have requests here. */
export interface Standing {
  readonly running: number
  readonly weight: number
  /** Sequences that others run, all together. */
  readonly othersRunning: number
  /** The most of them of late. */
  readonly othersPeak: number
  /** Of all tenants with requests here, this one too. */
  readonly weights: number
}

/** Sequences kept for others beyond their peak. */
const HEADROOM = 2
/** Of the sequences, rounded down: kept for newcomers even where nobody else was seen. */
const RESERVE_MIN = 1 / 8
const RESERVE_MAX = 3 / 8
/** A peak's part that is left after one more start on the host: half of it after 350. */
const PEAK_KEPT = 0.998

/** Free sequences that the tenant may not take, `starting` of its own counted as running. */
export function reservedFrom(standing: Standing, sequenceCount: number, starting: number): number {
  const { running, othersRunning, othersPeak } = standing
  if (running + starting < shareOf(standing, sequenceCount)) return 0
  const seen = Math.round(othersPeak)
  const kept = seen === 0 ? 0 : seen + HEADROOM - othersRunning
  const [min, max] = [RESERVE_MIN, RESERVE_MAX].map((part) => Math.floor(sequenceCount * part))
  return Math.max(min ?? 0, Math.min(max ?? 0, kept))
}

/** Its last start was beyond its share: it may be made to wait for others. */
export function isBeyondShare(standing: Standing, sequenceCount: number): boolean {
  return standing.running >= shareOf(standing, sequenceCount) + 1
}

/** `running` sequences of others, at one more start on the host. */
export function followPeak(peak: number, running: number): number {
  return Math.max(peak * PEAK_KEPT, running)
}

function shareOf({ weight, weights }: Standing, sequenceCount: number): number {
  return (sequenceCount * weight) / (weights + 1)
}
