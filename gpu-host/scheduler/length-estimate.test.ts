import { describe, expect, it } from 'vitest'
import { LengthEstimate } from './length-estimate.ts'

describe('LengthEstimate', () => {
  it("goes by the tenant's own past, then by everybody's, and never beyond the limit", () => {
    const lengths = new LengthEstimate()
    expect(lengths.of('a', 4000)).toBe(128)
    expect(lengths.of('a', 7)).toBe(7)
    for (let i = 0; i < 50; i++) lengths.observe('a', 20)
    expect(lengths.of('a', 4000)).toBe(20)
    expect(lengths.of('b', 4000)).toBe(20)
    for (let i = 0; i < 50; i++) lengths.observe('b', 500)
    expect(lengths.of('a', 4000)).toBe(20)
    expect(lengths.of('b', 4000)).toBeGreaterThan(490)
    expect(lengths.of('c', 4000)).toBeGreaterThan(20)
    expect(lengths.of('b', 30)).toBe(30)
  })

  it('remembers so many tenants', () => {
    const lengths = new LengthEstimate()
    lengths.observe('first', 10)
    for (let i = 0; i < 10_000; i++) lengths.observe(`ten_${i}`, 1000)
    expect(lengths.of('first', 4000)).toBeGreaterThan(900)
    lengths.observe('ten_9999', 1000)
    expect(lengths.of('ten_9999', 4000)).toBe(1000)
  })
})
