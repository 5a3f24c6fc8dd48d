import { expect, it } from 'vitest'
import { findPostgres } from '../db/test/support/postgres-server.ts'
import { runRolling } from './rolling.ts'

it.skipIf(findPostgres() === null)(
  'cuts no stream while every host of a pool is drained and started anew',
  { timeout: 240_000 },
  async () => {
    const report = await runRolling({ drains: 3, streams: 12, seed: 1, waitTargetMs: 60_000 })
    expect(report).toMatchObject({ cut: 0, faults: 0, lost: 0, double: 0, findings: [] })
    expect(report.requests).toBeGreaterThan(report.streams)
    expect(report.ledger_tokens).toBe(report.journal_tokens)
  },
)
