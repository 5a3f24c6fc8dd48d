import { describe, expect, it } from 'vitest'
import { WaitGuard } from './wait-guard.ts'

const ALLOWED_MS = 1000

/** `seconds` with ten starts each, of which `late` waited for twice as long as allowed. */
function pass(guard: WaitGuard, fromS: number, seconds: number, late: number): void {
  for (let i = 0; i < seconds * 10; i++) {
    const waitMs = i % 10 < late ? 2 * ALLOWED_MS : 10
    guard.observe('a', { waitMs, allowedMs: ALLOWED_MS, nowMs: fromS * 1000 + i * 100 })
  }
}

describe('WaitGuard', () => {
  it('lets all in while waits are as forecast, with some outliers', () => {
    const guard = new WaitGuard()
    pass(guard, 0, 60, 1)
    expect(guard.factorOf('a')).toBe(1)
  })

  it('cuts what is admitted while waits are longer, down to a floor', () => {
    const guard = new WaitGuard()
    pass(guard, 0, 3, 5)
    expect(guard.factorOf('a')).toBeCloseTo(4 / 9, 6)
    pass(guard, 3, 60, 5)
    expect(guard.factorOf('a')).toBe(1 / 8)
    expect(guard.factorOf('b')).toBe(1)
  })

  it('comes back step by step', () => {
    const guard = new WaitGuard()
    pass(guard, 0, 60, 10)
    pass(guard, 60, 5, 0)
    expect(guard.factorOf('a')).toBeGreaterThan(1 / 8)
    expect(guard.factorOf('a')).toBeLessThan(0.6)
    pass(guard, 65, 10, 0)
    expect(guard.factorOf('a')).toBe(1)
  })
})
