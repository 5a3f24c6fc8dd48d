import { beforeEach, describe, expect, it } from 'vitest'
import { PACE_KEPT_MS, PACE_SHARE_MIN } from '../limits.ts'
import { HostPace } from './host-pace.ts'

let nowMs = 0
let pace: HostPace
beforeEach(() => {
  nowMs = 0
  pace = new HostPace(() => nowMs)
})

/** Each host's requests in turn. */
function run(times: Record<string, number>, rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    for (const [hostId, ms] of Object.entries(times)) pace.sampled(hostId, ms)
  }
}

describe('HostPace', () => {
  it('takes the share of a host that is ten times as slow, by degrees, never all of it', () => {
    run({ a: 100, b: 110, slow: 1000 }, 6)
    const early = pace.shareOf('slow')
    expect(early).toBeLessThan(1)
    expect(early).toBeGreaterThan(0.7)
    run({ a: 100, b: 110, slow: 1000 }, 100)
    expect(pace.shareOf('slow')).toBe(PACE_SHARE_MIN)
    expect([pace.shareOf('a'), pace.shareOf('b')]).toEqual([1, 1])
  })

  it('knows a slow host in a pool of two', () => {
    run({ a: 100, slow: 1000 }, 20)
    expect(pace.shareOf('slow')).toBeLessThan(0.5)
    expect(pace.shareOf('a')).toBe(1)
  })

  it('leaves hosts alone that are all slow, or differ by what nobody feels', () => {
    run({ a: 5000, b: 6000, c: 4000 }, 50)
    run({ d: 5, e: 40 }, 50)
    expect(['a', 'b', 'c', 'd', 'e'].map((id) => pace.shareOf(id))).toEqual([1, 1, 1, 1, 1])
  })

  it('takes one long wait among many short ones for what it is', () => {
    run({ a: 100, b: 100 }, 10)
    pace.sampled('a', 10_000)
    expect(pace.shareOf('a')).toBe(1)
  })

  it('gives the share back to one that is fast again', () => {
    run({ a: 100, b: 100, c: 1000 }, 50)
    run({ a: 100, b: 100, c: 100 }, 40)
    expect(pace.shareOf('c')).toBe(1)
  })

  it('forgets what it has not seen for a while', () => {
    run({ a: 100, b: 100, c: 1000 }, 50)
    nowMs += PACE_KEPT_MS + 1
    expect(pace.shareOf('c')).toBe(1)
  })
})
