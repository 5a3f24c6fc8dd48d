import { beforeEach, describe, expect, it } from 'vitest'
import {
  EJECTION_MS_MAX,
  EJECTION_MS_MIN,
  EJECTIONS_FORGOTTEN_MS,
  FAILURES_IN_ROW_MAX,
  PROBE_PAUSE_MS,
  SLOW_START_MS,
  SLOW_START_SHARE,
} from '../limits.ts'
import { HostHealth, withoutEjected } from './host-health.ts'

let nowMs = 0
let ejections: string[] = []
let health: HostHealth
beforeEach(() => {
  nowMs += 1_000_000
  ejections = []
  health = new HostHealth({
    nowMs: () => nowMs,
    random: () => 0.5,
    onEjected: (hostId, reason, forMs) => ejections.push(`${hostId} ${reason} ${forMs}`),
  })
  health.heard('a', 1, SLOW_START_MS)
})

const isEjected = () => health.standing('a').isEjected

describe('a host that failed a call', () => {
  it('is asked last and asked how it is, at once', () => {
    expect(health.isProbeDue('a')).toBe(false)
    health.failed('a')
    expect(health.standing('a')).toEqual({ isEjected: false, isDoubted: true, share: 1 })
    expect(health.isProbeDue('a')).toBe(true)
  })

  it('and says that it is well, is trusted again with all of its share', () => {
    health.failed('a')
    health.probed('a', 'well')
    expect(health.standing('a')).toEqual({ isEjected: false, isDoubted: false, share: 1 })
    expect(health.isProbeDue('a')).toBe(false)
  })

  it.each(['dead', 'unwell'] as const)('and is %s, is out', (life) => {
    health.failed('a')
    health.probed('a', life)
    expect(isEjected()).toBe(true)
    expect(ejections).toEqual([`a ${life} ${EJECTION_MS_MIN}`])
  })

  it('again and again is out, whatever it says of itself', () => {
    for (let i = 1; i < FAILURES_IN_ROW_MAX; i++) {
      health.failed('a')
      health.probed('a', 'well')
    }
    expect(isEjected()).toBe(false)
    health.failed('a')
    expect(isEjected()).toBe(true)
    health.heard('a', 1, 0)
    health.probed('a', 'well')
    expect(isEjected()).toBe(true)
    nowMs += EJECTION_MS_MIN
    health.probed('a', 'well')
    expect(isEjected()).toBe(false)
  })

  it('now and then among successes stays', () => {
    for (let i = 0; i < 10 * FAILURES_IN_ROW_MAX; i++) {
      health.failed('a')
      health.succeeded('a')
    }
    expect(ejections).toEqual([])
  })
})

describe('an ejected host', () => {
  beforeEach(() => {
    health.failed('a')
    health.probed('a', 'dead')
  })

  it('is one ejection, however many of its requests fail', () => {
    for (let i = 0; i < 100; i++) {
      health.failed('a')
      health.probed('a', 'dead')
    }
    expect(ejections).toHaveLength(1)
    nowMs += EJECTION_MS_MIN
    expect(health.isProbeDue('a')).toBe(true)
  })

  it('is asked when its time is over, and comes back with half of its share', () => {
    nowMs += EJECTION_MS_MIN - 1
    expect(health.isProbeDue('a')).toBe(false)
    nowMs += 1
    expect(health.isProbeDue('a')).toBe(true)
    health.probed('a', 'well')
    expect(health.standing('a').share).toBe(SLOW_START_SHARE)
    nowMs += SLOW_START_MS / 2
    expect(health.standing('a').share).toBeCloseTo((1 + SLOW_START_SHARE) / 2)
    nowMs += SLOW_START_MS
    expect(health.standing('a').share).toBe(1)
  })

  it('is asked before its time when it beats again, and not more often than agreed', () => {
    nowMs += PROBE_PAUSE_MS - 1
    health.heard('a', 1, 0)
    expect(health.isProbeDue('a')).toBe(false)
    nowMs += 1
    expect(health.isProbeDue('a')).toBe(true)
    health.probed('a', 'well')
    expect(isEjected()).toBe(false)
  })

  it('stays out twice as long each time, up to the most, until it was in for a while', () => {
    const stays: number[] = []
    for (let i = 0; i < 8; i++) {
      let stayMs = 0
      while (!health.isProbeDue('a')) {
        nowMs += 500
        stayMs += 500
      }
      stays.push(stayMs)
      health.probed('a', 'dead')
    }
    const times = [1, 2, 4, 8, 16].map((n) => n * EJECTION_MS_MIN)
    expect(stays).toEqual([...times, EJECTION_MS_MAX, EJECTION_MS_MAX, EJECTION_MS_MAX])
    nowMs += EJECTION_MS_MAX
    health.probed('a', 'well')
    nowMs += EJECTIONS_FORGOTTEN_MS
    health.probed('a', 'dead')
    expect(ejections.at(-1)).toBe(`a dead ${EJECTION_MS_MIN}`)
  })

  it('is in at once when it started anew, and starts slowly', () => {
    health.heard('a', 2, 0)
    expect(health.standing('a')).toEqual({
      isEjected: false,
      isDoubted: false,
      share: SLOW_START_SHARE,
    })
  })

  it('that answered a request all the same is back', () => {
    health.succeeded('a')
    expect(isEjected()).toBe(false)
  })
})

describe('the view of one edge', () => {
  it('is its own: what one saw fail, another still trusts', () => {
    const other = new HostHealth({ nowMs: () => nowMs, random: () => 0.5 })
    other.heard('a', 1, SLOW_START_MS)
    health.failed('a')
    health.probed('a', 'dead')
    expect(isEjected()).toBe(true)
    expect(other.standing('a')).toEqual({ isEjected: false, isDoubted: false, share: 1 })
  })
})

describe('withoutEjected', () => {
  const left = (pool: string, ejected: string) =>
    withoutEjected([...pool], (host) => ejected.includes(host)).join('')

  it('leaves out up to half of the pool, and nobody when it would be more', () => {
    expect(left('abcd', 'a')).toBe('bcd')
    expect(left('abcd', 'ab')).toBe('cd')
    expect(left('abcd', 'abc')).toBe('abcd')
    expect(left('abcd', 'abcd')).toBe('abcd')
    expect(left('abc', 'a')).toBe('bc')
    expect(left('abc', 'ab')).toBe('abc')
    expect(left('ab', 'b')).toBe('a')
    expect(left('a', 'a')).toBe('a')
  })
})
