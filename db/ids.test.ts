import { describe, expect, it } from 'vitest'
import { createId } from './ids.ts'

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
})
