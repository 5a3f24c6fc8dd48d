import { expect, it } from 'vitest'
import { runIsolation } from './isolation.ts'

it('isolation: tenants and adapters never meet, by their words, their cells, their times or what is left', {
  timeout: 180_000,
}, async () => {
  const report = await runIsolation({
    ...{ seed: 7, requests: 1500, cases: 300, samples: 40, rounds: 2 },
    ...{ adapters: 6, prefixes: 3, parts: ['answers', 'identity', 'work', 'residue'] },
  })
  expect(report.findings).toEqual([])
  // Otherwise nothing was at stake.
  expect(report.answers?.cancelled).toBeGreaterThan(100)
  expect(report.answers?.missing_adapter_refused).toBeGreaterThan(3)
  expect(report.answers?.first_of_their_kind).toBeGreaterThan(50)
  expect(report.identity?.hit_cells).toBeGreaterThan(40)
  expect(report.residue?.numbers_compared).toBeGreaterThan(10_000)
  expect(report.residue?.answered).toBeGreaterThan(50)
  expect(report.residue?.refused).toBeGreaterThan(20)
})
