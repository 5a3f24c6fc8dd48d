import { describe, expect, it } from 'vitest'
import { createRandom } from '../test/support/random.ts'
import { calmWait, WaitTarget } from './wait-target.ts'

const SERVICE_MS = 600
const SEQUENCES = 16

/** One arrival each 100 ms from `fromMs` to `toMs`, each of which would wait `waitMs`. */
function pass(target: WaitTarget, fromMs: number, toMs: number, waitMs: number): void {
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += 100) {
    target.observe('a', { waitMs, serviceMs: SERVICE_MS, nowMs })
  }
}

describe('WaitTarget', () => {
  it('lets a burst in, and holds a line that stands to what a request takes', () => {
    const target = new WaitTarget(SEQUENCES)
    pass(target, 0, 900, 800)
    expect(target.allowedMs('a', SERVICE_MS, 900)).toBe(1000)
    pass(target, 1000, 1000, 800)
    expect(target.allowedMs('a', SERVICE_MS, 1000)).toBe(SERVICE_MS)
    expect(target.allowedMs('b', SERVICE_MS, 1000)).toBe(1000)
  })

  it('believes again when the line has been short for a second, or nobody came', () => {
    const target = new WaitTarget(SEQUENCES)
    pass(target, 0, 2000, 800)
    pass(target, 2100, 2500, 0)
    pass(target, 2600, 2600, 800)
    expect(target.allowedMs('a', SERVICE_MS, 2600)).toBe(SERVICE_MS)
    pass(target, 2700, 3600, 0)
    expect(target.allowedMs('a', SERVICE_MS, 3600)).toBe(1000)
    pass(target, 9000, 9000, 800)
    expect(target.allowedMs('a', SERVICE_MS, 9000)).toBe(1000)
  })

  it('lets in what came before the line stood as a burst, whenever it is asked', () => {
    const target = new WaitTarget(SEQUENCES)
    pass(target, 0, 2000, 800)
    expect(target.allowedMs('a', SERVICE_MS, 500)).toBe(1000)
  })

  it('allows the less, the more sequences could be free, and never less than a hiccup', () => {
    const standing = (sequences: number, serviceMs: number): number => {
      const target = new WaitTarget(sequences)
      pass(target, 0, 2000, 10_000)
      return target.allowedMs('a', serviceMs, 2000)
    }
    expect(standing(1, 5000)).toBe(5000)
    expect(standing(64, 5000)).toBeCloseTo(2 * calmWait(64) * 5000, 6)
    expect(standing(64, 5000)).toBeLessThan(2500)
    expect(standing(1024, 5000)).toBe(100)
    expect(standing(16, 20)).toBe(100)
  })

  it('allows a burst while nothing is known', () => {
    const target = new WaitTarget(SEQUENCES)
    for (let nowMs = 0; nowMs < 3000; nowMs += 100) {
      target.observe('a', { waitMs: 5000, serviceMs: null, nowMs })
    }
    expect(target.allowedMs('a', null, 3000)).toBe(1000)
  })
})

describe('calmWait', () => {
  it.each([4, 16])(
    'is passed by one in a hundred in a simulated queue of %i sequences',
    (sequences) => {
      const random = createRandom(1)
      const draw = (mean: number): number => -Math.log(1 - random()) * mean
      const freeAt = new Array<number>(sequences).fill(0)
      const requests = 300_000
      let late = 0
      let at = 0
      for (let i = 0; i < requests; i++) {
        const lane = freeAt.indexOf(Math.min(...freeAt))
        const start = Math.max(at, freeAt[lane] ?? 0)
        if (start - at > calmWait(sequences)) late += 1
        freeAt[lane] = start + draw(1)
        at += draw(1 / (0.8 * sequences))
      }
      expect(late / requests).toBeGreaterThan(0.008)
      expect(late / requests).toBeLessThan(0.0125)
    },
  )
})
