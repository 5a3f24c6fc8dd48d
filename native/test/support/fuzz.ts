/**
 * How long a fuzzing test runs, and from which seed: a second or two in `npm test`, as long as
 * `npm run soak` says there. Each run leaves a line of what it did for the soak's report.
 */

import { randomInt } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import type { Parameters } from 'fast-check'

const { NOZZLE_FUZZ_SECONDS, NOZZLE_FUZZ_SEED, NOZZLE_FUZZ_REPORT } = process.env

export const FUZZ_SEED = Number(NOZZLE_FUZZ_SEED ?? randomInt(2 ** 31 - 1))
/** null = as the test itself says. */
export const FUZZ_SECONDS = NOZZLE_FUZZ_SECONDS === undefined ? null : Number(NOZZLE_FUZZ_SECONDS)
/** Above whatever a soak may be asked for. */
export const FUZZ_TIMEOUT_MS = FUZZ_SECONDS === null ? 60_000 : FUZZ_SECONDS * 3000 + 120_000

/**
 * For `fc.assert`: `runs` of them, or as many as fit a share of the soak's time. A failure prints
 * its seed; `NOZZLE_FUZZ_SEED=<seed> npm test -- <file>` runs it again.
 */
export function fuzzParameters<T>(runs: number, share = 1): Parameters<T> {
  if (FUZZ_SECONDS === null) return { numRuns: runs, seed: FUZZ_SEED }
  return {
    numRuns: Number.MAX_SAFE_INTEGER,
    seed: FUZZ_SEED,
    interruptAfterTimeLimit: FUZZ_SECONDS * 1000 * share,
    markInterruptAsFailure: false,
  }
}

export function reportFuzz(target: string, figures: object): void {
  if (NOZZLE_FUZZ_REPORT === undefined) return
  appendFileSync(NOZZLE_FUZZ_REPORT, `${JSON.stringify({ target, ...figures })}\n`)
}
