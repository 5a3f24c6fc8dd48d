import { describe, expect, it } from 'vitest'
import { createId, idTimeMs, timeSigns } from './ids.ts'

describe('createId', () => {
  it('says what it names, and never comes twice', () => {
    const ids = Array.from({ length: 1000 }, () => createId('mod'))
    expect(new Set(ids).size).toBe(1000)
    for (const id of ids) expect(id).toMatch(/^mod_[0-9a-hjkmnp-tv-z]{26}$/)
  })

  it('uses every sign of its alphabet', () => {
    const signs = new Set(Array.from({ length: 200 }, () => createId('ten').slice(4)).join(''))
    expect(signs.size).toBe(32)
  })

  it('carries the time that it was made at, and sorts by it', () => {
    const times = [Date.UTC(2026, 0), Date.UTC(2026, 0) + 1, Date.UTC(2026, 10, 26, 17, 5, 9, 123)]
    const ids = times.map((ms) => createId('req', ms))
    expect(ids.map(idTimeMs)).toEqual(times)
    expect(ids.toSorted()).toEqual(ids)
    for (const [i, ms] of times.entries())
      expect(ids[i]?.startsWith(`req_${timeSigns(ms)}`)).toBe(true)
  })

  it.each(['req_1', 'req_zzzzzzzzzz0000000000000000', '', 'req_00000000000000000000000000'])(
    'knows that %s carries no time',
    (id) => expect(idTimeMs(id)).toBeNull(),
  )
})
