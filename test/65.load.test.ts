/**
 * Two hundred streams at once through two edges and three hosts, as `bench load` runs them for
 * longer: every chunk arrives once and in order, and the books are exact.
 */
import { expect, it } from 'vitest'
import { isExact, runLoad } from '../bench/load.ts'
import { findPostgres } from '../db/test/support/postgres-server.ts'

const STREAMS = 200
const SECONDS = 30
/** Caches still fill. A process that kept 19 kB of each request would keep twice as much. */
const SLOPE_MIB_MIN_MAX = 15

it.skipIf(findPostgres() === null)(
  'loses no chunk of two hundred streams, nor a token',
  async () => {
    const report = await runLoad({ streams: STREAMS, seconds: SECONDS, seed: 1 })
    expect(report.findings).toEqual([])
    expect(isExact(report), JSON.stringify(report)).toBe(true)
    expect(report.requests).toBeGreaterThan(STREAMS)
    expect(report.live_slope_mb_min).toBeLessThan(SLOPE_MIB_MIN_MAX)
  },
)
