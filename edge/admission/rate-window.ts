/**
 * Units used in slices of RATE_SLICE_MS, and their sum over the last minute. A slice counts until a
 * minute after its end, so any 60 seconds that one looks at lie within what was counted at their
 * end. Pure but for its own counts.
 */
import { RATE_SLICE_MS, RATE_WINDOW_MS } from '../limits.ts'

export class RateWindow {
  readonly #bySlice = new Map<number, bigint>()

  add(atMs: number, units: bigint): void {
    const slice = Math.floor(atMs / RATE_SLICE_MS)
    this.#bySlice.set(slice, (this.#bySlice.get(slice) ?? 0n) + units)
  }

  sum(nowMs: number): bigint {
    let total = 0n
    for (const [slice, units] of this.#bySlice) {
      if (leavesAtMs(slice) <= nowMs) this.#bySlice.delete(slice)
      else total += units
    }
    return total
  }

  /** Until nothing counts any more. */
  resetMs(nowMs: number): number {
    let lastMs = nowMs
    for (const [slice, units] of this.#bySlice) {
      if (units > 0n) lastMs = Math.max(lastMs, leavesAtMs(slice))
    }
    return lastMs - nowMs
  }
}

/** When what was used in the slice counts no more. */
export function leavesAtMs(slice: number): number {
  return (slice + 1) * RATE_SLICE_MS + RATE_WINDOW_MS
}
