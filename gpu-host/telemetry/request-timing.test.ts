import { describe, expect, it } from 'vitest'
import { RequestTiming } from './request-timing.ts'

describe('RequestTiming', () => {
  it('tells queue time, TTFT, gaps and TPOT', () => {
    const timing = new RequestTiming(100)
    expect(timing.queueUs(150)).toBe(50)
    expect(timing.markRow(180)).toBe(80)
    expect(timing.markRow(400)).toBeNull()
    expect(timing.ttftUs).toBeNull()
    expect(timing.markToken(500)).toBeNull()
    expect(timing.tpotUs).toBeNull()
    expect(timing.markToken(520)).toBe(20)
    expect(timing.markToken(600)).toBe(80)
    expect(timing.queueUs(9999)).toBe(80)
    expect(timing.ttftUs).toBe(400)
    expect(timing.tpotUs).toBe(50)
  })
})
