import { expect, it } from 'vitest'
import { PaceWatch, timeFor } from './pace.ts'

const pace = { graceMs: 15_000, bytesPerSecond: 16_384 }

/** When a peer that sends `bytes` every `everyMs` is called too slow, of ten minutes. */
function cutAt(bytes: number, everyMs: number): number | null {
  let nowMs = 0
  let due: { atMs: number; look: () => void } | null = null
  let slowMs: number | null = null
  const watch = new PaceWatch({
    pace,
    nowMs: () => nowMs,
    setTimer(ms, look) {
      due = { atMs: nowMs + ms, look }
      return () => {
        due = null
      }
    },
    onSlow: () => {
      slowMs = nowMs
    },
  })
  for (; nowMs < 600_000 && slowMs === null; nowMs++) {
    if (nowMs % everyMs === 0) watch.moved(bytes)
    const timer = due as { atMs: number; look: () => void } | null
    if (timer !== null && timer.atMs <= nowMs) {
      due = null
      timer.look()
    }
  }
  watch.end()
  return slowMs
}

it('allows the grace, and then the floor', () => {
  expect(timeFor(pace, 0)).toBe(15_000)
  expect(timeFor(pace, 16_384)).toBe(16_000)
})

it('cuts whoever is silent at the grace, and whoever trickles soon after', () => {
  expect(cutAt(0, 1000)).toBe(15_000)
  expect(cutAt(1, 1000)).toBeLessThan(15_010)
  expect(cutAt(1024, 1000)).toBeLessThan(16_100)
})

it('lets a slow line be slow', () => {
  expect(cutAt(16_384, 1000)).toBeNull()
  expect(cutAt(100_000, 5000)).toBeNull()
})
