import { expect, it } from 'vitest'
import { findPostgres } from '../db/test/support/postgres-server.ts'
import { runOverload } from './overload.ts'

it.skipIf(findPostgres() === null)(
  'goes on serving what it can when three times as much is asked, and loses nothing',
  { timeout: 240_000 },
  async () => {
    const report = await runOverload({ seconds: 6, capacitySeconds: 2, seed: 1 })
    expect(report).toMatchObject({ faults: 0, lost: 0, double: 0, findings: [] })
    expect(report.requests).toBe(report.asked)
    expect(report.refused).toBeGreaterThan(0)
    expect(report.refused_without_retry_after).toBe(0)
    expect(report.ledger_tokens).toBe(report.journal_tokens)
    expect(report.ledger_tokens).toBe(report.client_tokens)
    expect(report.goodput_ratio).toBeGreaterThan(0.6)
  },
)
