import { expect, it } from 'vitest'
import { findPostgres } from '../db/test/support/postgres-server.ts'
import { isMetered, runEdge } from './edge.ts'

it.skipIf(findPostgres() === null)(
  'serves the same answers directly, through Node and through workerd, and all are charged',
  { timeout: 120_000 },
  async () => {
    const sizes = { rounds: 1, requests: 20, clients: 2, seconds: 1 }
    const report = await runEdge({ ...sizes, withPeers: false, profileTo: null })
    expect(isMetered(report), JSON.stringify(report)).toBe(true)
    expect(report.settled).toBe(report.answers)
    for (const runtime of [report, report.workerd]) {
      expect(runtime.rps).toBeGreaterThan(0)
      expect(runtime.edge_ms.p50).toBeGreaterThan(runtime.direct_ms.p50)
      expect(runtime.first_token.edge_ms.p50).toBeGreaterThan(0)
    }
    expect(report.peers).toEqual([])
  },
)
