/**
 * Two hundred streams at once through two edges and three hosts, as `bench load` runs them for
 * longer: every chunk arrives once and in order, and the books are exact.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { isExact, runLoad } from '../bench/load.ts'
import { describeOnEdges, SHARED_UNLESS_CHOSEN } from './support/on-edges.ts'
import { clusterEdges } from './support/pool-home.ts'

const STREAMS = 200
const SECONDS = 30
/** Caches still fill. A process that kept 19 kB of each request would keep twice as much. */
const SLOPE_MIB_MIN_MAX = 15

describeOnEdges('load', SHARED_UNLESS_CHOSEN, (edge) => {
  it('loses no chunk of two hundred streams, nor a token', async () => {
    const bundle = mkdtempSync(join(tmpdir(), 'nozzle-load-'))
    const edges = await clusterEdges(edge, bundle)
    const report = await runLoad({ streams: STREAMS, seconds: SECONDS, seed: 1, ...edges })
    rmSync(bundle, { recursive: true })
    expect(report.findings).toEqual([])
    expect(isExact(report), JSON.stringify(report)).toBe(true)
    expect(report.requests).toBeGreaterThan(STREAMS)
    expect(report.live_slope_mb_min).toBeLessThan(SLOPE_MIB_MIN_MAX)
  })
})
