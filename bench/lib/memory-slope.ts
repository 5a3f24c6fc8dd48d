/**
 * How fast a process's memory grows: the median of each window of samples, and the median of the
 * slopes between every two windows, which a few collections more or fewer do not tip. Pure.
 */
import { median } from './statistics.ts'

export interface MemorySample {
  /** Of any clock. */
  readonly atMs: number
  readonly bytes: number
}

const WINDOWS = 10
/** Heaps grow to their size first. */
const WARM_UP_SHARE = 0.3
const MIB = 1024 * 1024

/** MiB a minute over all but the first samples, which must be at least 20 and in order. */
export function slopeMibPerMinute(samples: readonly MemorySample[]): number {
  const settled = samples.slice(Math.floor(samples.length * WARM_UP_SHARE))
  if (settled.length < WINDOWS) throw new RangeError('too few samples for a slope')
  const windows = Array.from({ length: WINDOWS }, (_, i) => {
    const part = settled.slice(
      Math.floor((i * settled.length) / WINDOWS),
      Math.floor(((i + 1) * settled.length) / WINDOWS),
    )
    return {
      minutes: median(part.map(({ atMs }) => atMs)) / 60_000,
      mib: median(part.map(({ bytes }) => bytes)) / MIB,
    }
  })
  const slopes = windows.flatMap((a, i) =>
    windows.slice(i + 1).map((b) => (b.mib - a.mib) / (b.minutes - a.minutes)),
  )
  return median(slopes)
}
