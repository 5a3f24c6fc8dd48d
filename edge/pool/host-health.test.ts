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
  hear(1, SLOW_START_MS)
})

const hear = (epoch: number, uptimeMs = 0, isDraining = false) =>
  health.heard('a', { epoch, uptimeMs, isDraining })
const isEjected = () => health.standing('a').isEjected

describe('a host that failed a call', () => {
  it('is asked last and asked how it is, at once', () => {
    expect(health.isProbeDue('a')).toBe(false)
    health.failed('a', nowMs)
    expect(health.standing('a')).toEqual({ isEjected: false, isDoubted: true, share: 1 })
    expect(health.isProbeDue('a')).toBe(true)
  })

  it('and says that it is well, is trusted again with all of its share', () => {
    health.failed('a', nowMs)
    health.probed('a', 'well', nowMs)
    expect(health.standing('a')).toEqual({ isEjected: false, isDoubted: false, share: 1 })
    expect(health.isProbeDue('a')).toBe(false)
  })

  it.each(['dead', 'unwell'] as const)('and is %s, is out', (life) => {
    health.failed('a', nowMs)
    health.probed('a', life, nowMs)
    expect(isEjected()).toBe(true)
    expect(ejections).toEqual([`a ${life} ${EJECTION_MS_MIN}`])
  })

  it('again and again is out, whatever it says of itself', () => {
    for (let i = 1; i < FAILURES_IN_ROW_MAX; i++) {
      health.failed('a', nowMs)
      health.probed('a', 'well', nowMs)
    }
    expect(isEjected()).toBe(false)
    health.failed('a', nowMs)
    expect(isEjected()).toBe(true)
    hear(1)
    health.probed('a', 'well', nowMs)
    expect(isEjected()).toBe(true)
    nowMs += EJECTION_MS_MIN
    health.probed('a', 'well', nowMs)
    expect(isEjected()).toBe(false)
  })

  it('now and then among successes stays', () => {
    for (let i = 0; i < 10 * FAILURES_IN_ROW_MAX; i++) {
      health.failed('a', nowMs)
      health.succeeded('a')
    }
    expect(ejections).toEqual([])
  })
})

describe('an ejected host', () => {
  beforeEach(() => {
    health.failed('a', nowMs)
    health.probed('a', 'dead', nowMs)
  })

  it('is one ejection, however many of its requests fail', () => {
    for (let i = 0; i < 100; i++) {
      health.failed('a', nowMs)
      health.probed('a', 'dead', nowMs)
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
    health.probed('a', 'well', nowMs)
    expect(health.standing('a').share).toBe(SLOW_START_SHARE)
    nowMs += SLOW_START_MS / 2
    expect(health.standing('a').share).toBeCloseTo((1 + SLOW_START_SHARE) / 2)
    nowMs += SLOW_START_MS
    expect(health.standing('a').share).toBe(1)
  })

  it('is asked before its time when it beats again, and not more often than agreed', () => {
    nowMs += PROBE_PAUSE_MS - 1
    hear(1)
    expect(health.isProbeDue('a')).toBe(false)
    nowMs += 1
    expect(health.isProbeDue('a')).toBe(true)
    health.probed('a', 'well', nowMs)
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
      health.probed('a', 'dead', nowMs)
    }
    const times = [1, 2, 4, 8, 16].map((n) => n * EJECTION_MS_MIN)
    expect(stays).toEqual([...times, EJECTION_MS_MAX, EJECTION_MS_MAX, EJECTION_MS_MAX])
    nowMs += EJECTION_MS_MAX
    health.probed('a', 'well', nowMs)
    nowMs += EJECTIONS_FORGOTTEN_MS
    health.probed('a', 'dead', nowMs)
    expect(ejections.at(-1)).toBe(`a dead ${EJECTION_MS_MIN}`)
  })

  it('is in at once when it started anew, and starts slowly', () => {
    hear(2)
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

describe('a host that drains', () => {
  const trusted = { isEjected: false, isDoubted: false, share: 1 }

  it.each([
    ['in its report', () => hear(1, 0, true)],
    ['as it refuses a request', () => health.drains('a')],
  ])('and says so %s, is not sick when it closes its sockets', (_, drain) => {
    drain()
    for (let i = 0; i < 2 * FAILURES_IN_ROW_MAX; i++) {
      health.failed('a', nowMs)
      health.probed('a', 'dead', nowMs)
    }
    expect(health.isProbeDue('a')).toBe(false)
    expect([health.standing('a'), ejections]).toEqual([trusted, []])
    hear(1)
    expect(health.standing('a')).toEqual(trusted)
    health.probed('a', 'dead', nowMs)
    expect(isEjected()).toBe(true)
  })

  it('and was asked how it is before it said so, is out for nothing else', () => {
    health.probed('a', 'unwell', nowMs)
    hear(1, 0, true)
    hear(1)
    expect(health.standing('a')).toEqual(trusted)
    health.probed('a', 'dead', nowMs)
    expect(ejections.at(-1)).toBe(`a dead ${EJECTION_MS_MIN}`)
    hear(1, 0, true)
    expect(isEjected()).toBe(true)
  })
})

describe('a new start of a host', () => {
  it('answers for no call to the one before, however late that fails', () => {
    const begunMs = nowMs
    nowMs += 3000
    expect(hear(2, 1000)).toBe(true)
    for (let i = 0; i < 2 * FAILURES_IN_ROW_MAX; i++) health.failed('a', begunMs)
    health.probed('a', 'dead', begunMs)
    expect(health.standing('a')).toMatchObject({ isEjected: false, isDoubted: false })
    expect(hear(2)).toBe(false)
    health.failed('a', nowMs - 1000)
    expect(health.standing('a').isDoubted).toBe(true)
  })
})

describe('the view of one edge', () => {
  it('is its own: what one saw fail, another still trusts', () => {
    const other = new HostHealth({ nowMs: () => nowMs, random: () => 0.5 })
    other.heard('a', { epoch: 1, uptimeMs: SLOW_START_MS, isDraining: false })
    health.failed('a', nowMs)
    health.probed('a', 'dead', nowMs)
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
