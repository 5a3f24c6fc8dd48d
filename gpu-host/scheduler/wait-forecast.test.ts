import { describe, expect, it } from 'vitest'
import { forecastSteps } from './wait-forecast.ts'

const base = { running: [], ahead: [], sequenceCount: 4, reserved: 0 }

describe('forecastSteps', () => {
  it('is nothing while a sequence is free for this request', () => {
    expect(forecastSteps({ ...base, running: [50, 60, 70] })).toBe(0)
    expect(forecastSteps({ ...base, running: [50, 60, 70], ahead: [10] })).toBe(10)
  })

  it('waits for the first that ends, after those ahead have had theirs', () => {
    const running = [50, 60, 70, 80]
    expect(forecastSteps({ ...base, running })).toBe(50)
    expect(forecastSteps({ ...base, running, ahead: [100, 100] })).toBe(70)
    expect(forecastSteps({ ...base, running, ahead: [5, 5] })).toBe(60)
  })

  it('counts the work ahead, not the requests', () => {
    const running = [1, 1, 1, 1]
    const short = forecastSteps({ ...base, running, ahead: Array(40).fill(2) })
    const long = forecastSteps({ ...base, running, ahead: Array(8).fill(100) })
    expect(short).toBe(1 + 20)
    expect(long).toBe(1 + 200)
  })

  it('leaves alone what is kept for others', () => {
    expect(forecastSteps({ ...base, running: [50, 60], reserved: 2 })).toBe(50)
    expect(forecastSteps({ ...base, running: [50, 60, 70, 80], reserved: 2 })).toBe(70)
    expect(forecastSteps({ ...base, sequenceCount: 1, running: [50], reserved: 2 })).toBe(50)
  })
})
