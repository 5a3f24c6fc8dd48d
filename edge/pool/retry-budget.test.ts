import { describe, expect, it } from 'vitest'
import { RETRIES_MIN, RETRY_SHARE, RETRY_WINDOW_MS } from '../limits.ts'
import { RetryBudget } from './retry-budget.ts'

/** Requests at an even pace, each of which would be tried again as often as it may. */
function attemptsOf(requests: number, everyMs: number): number[] {
  let nowMs = 0
  const budget = new RetryBudget(() => nowMs)
  return Array.from({ length: requests }, () => {
    nowMs += everyMs
    budget.begin()
    return 1 + Number(budget.take(0)) + Number(budget.take(0))
  })
}

const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0)

describe('RetryBudget', () => {
  it.each([1, 10, 100])('keeps attempts within 1.1 of the requests, one each %i ms', (everyMs) => {
    const perWindow = RETRY_WINDOW_MS / everyMs
    const attempts = attemptsOf(3 * perWindow, everyMs)
    for (const start of [0, perWindow / 3, perWindow, 2 * perWindow]) {
      const window = attempts.slice(start, start + perWindow)
      // What was left over from the window before may be used in this one.
      expect(sum(window)).toBeLessThanOrEqual((1 + RETRY_SHARE) * window.length * 1.02 + 1)
    }
    expect(sum(attempts)).toBeGreaterThan((1 + 0.9 * RETRY_SHARE) * attempts.length)
  })

  it('lets a quiet pool try again, a few times a window', () => {
    let nowMs = 0
    const budget = new RetryBudget(() => nowMs)
    budget.begin()
    const takes = Array.from({ length: 2 * RETRIES_MIN }, () => budget.take())
    expect(takes.filter(Boolean)).toHaveLength(RETRIES_MIN)
    nowMs += RETRY_WINDOW_MS - 1001
    expect(budget.take()).toBe(false)
    nowMs += 2002
    expect(budget.take()).toBe(true)
  })
})
