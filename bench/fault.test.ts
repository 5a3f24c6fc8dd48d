import { expect, it } from 'vitest'
import { isSound, runFault } from './fault.ts'

it('fault: lives that end at any call to the disk lose nothing, and double nothing', {
  timeout: 180_000,
}, async () => {
  const report = await runFault({ seed: 7, points: 30, real: 0, lanes: 1, only: null })
  expect(report.findings).toEqual([])
  expect(isSound(report)).toBe(true)
  expect(report.seeds).toBe(30)
  // Otherwise nothing was at stake.
  expect(report.simulated?.requests).toBeGreaterThan(100)
  expect(report.simulated?.deaths_in_recovery).toBeGreaterThan(10)
  expect(report.simulated?.power_loss_ms).toBeGreaterThan(0)
})
