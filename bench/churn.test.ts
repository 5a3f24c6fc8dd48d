import { expect, it } from 'vitest'
import { runChurn } from './churn.ts'

it('churn: every reply comes from its own adapter while slots change hands all the time', async () => {
  const report = await runChurn({
    shape: 'small',
    rank: 2,
    threads: 1,
    rounds: 1,
    adapters: 24,
    slots: 3,
    clients: 6,
    popularity: 'uniform',
    requests: 120,
  })
  expect(report.requests).toBe(120)
  expect(report.wrong_adapter).toBe(0)
  // Otherwise a wrong adapter would not have been noticed, or none was ever swapped.
  expect(report.wrong_adapter_would_show).toBe(1)
  expect(report.share.slot).toBeLessThan(0.6)
})
