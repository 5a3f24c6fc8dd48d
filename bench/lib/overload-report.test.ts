import { describe, expect, it } from 'vitest'
import { type Outcome, recoverySeconds, toPhaseReport } from './overload-report.ts'

const served = (dueMs: number, ttftMs: number): Outcome => ({
  ...{ dueMs, startMs: dueMs, firstTokenMs: dueMs + ttftMs, endMs: dueMs + ttftMs + 100 },
  ...{ kind: 'served', tokens: 10 },
})
const refused = (dueMs: number, afterMs: number): Outcome => ({
  ...{ dueMs, startMs: dueMs, firstTokenMs: null, endMs: dueMs + afterMs },
  ...{ kind: 'refused', tokens: 0 },
})
const every = (stepMs: number, fromMs: number, toMs: number) =>
  Array.from({ length: (toMs - fromMs) / stepMs }, (_, i) => fromMs + i * stepMs)

describe('toPhaseReport', () => {
  it('counts requests where they are due, and tokens where their reply runs', () => {
    const outcomes = [served(-50, 20), served(500, 20), served(960, 20), refused(700, 5)]
    const report = toPhaseReport({ load: 1, fromMs: 0, toMs: 1000 }, outcomes)
    expect(report).toMatchObject({ offered_s: 3, admitted_s: 2, refused_s: 1, failed: 0 })
    // Seven tokens of the first, all ten of the second, two of the third.
    expect(report).toMatchObject({ goodput_tok_s: 19, ttft_p99_ms: 20, refusal_p99_ms: 5 })
  })

  it('has no percentiles of nothing', () => {
    const report = toPhaseReport({ load: 1, fromMs: 0, toMs: 1000 }, [refused(1, 5)])
    expect(report).toMatchObject({ ttft_p50_ms: null, ttft_p99_ms: null, refusal_p50_ms: 5 })
  })
})

describe('recoverySeconds', () => {
  const phase = { load: 0.8, fromMs: 10_000, toMs: 30_000 }

  it('ends when the late ones have left the window', () => {
    const late = every(50, 0, 12_000).map((atMs) => served(atMs, 900))
    const soon = every(50, 12_000, 30_000).map((atMs) => served(atMs, 100))
    // At 17 s nobody due before 12 s is looked at.
    expect(recoverySeconds([...late, ...soon], phase, 100)).toBe(7)
  })

  it('is null where first tokens stay late', () => {
    const late = every(50, 0, 30_000).map((atMs) => served(atMs, 151))
    expect(recoverySeconds(late, phase, 100)).toBeNull()
  })
})
