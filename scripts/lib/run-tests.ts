/**
 * Runs vitest in this process and says how it ended in one line, `N passed, N failed`, which the
 * caller prints last. Invariant: what could not run (a file that does not load, an error outside
 * any test) counts as failed, and a run without any test is a failure.
 */
import { parseCLI, startVitest, type Vitest } from 'vitest/node'

export interface TestOutcome {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** @param args as for vitest's own command line: filters and flags. */
export async function runTests(args: readonly string[]): Promise<TestOutcome> {
  const { filter, options } = parseCLI(['vitest', 'run', ...args])
  const vitest = await startVitest(filter, { ...options, watch: false })
  try {
    return countOutcome(vitest)
  } finally {
    await vitest.close()
  }
}

export function formatOutcome({ passed, failed, skipped }: TestOutcome): string {
  const counts = `${passed} passed, ${failed} failed`
  return skipped > 0 ? `${counts}, ${skipped} skipped` : counts
}

export function isSuccess({ passed, failed }: TestOutcome): boolean {
  return failed === 0 && passed > 0
}

function countOutcome(vitest: Vitest): TestOutcome {
  let passed = 0
  let failed = vitest.state.getUnhandledErrors().length
  let skipped = 0
  for (const module of vitest.state.getTestModules()) {
    let failedHere = 0
    for (const test of module.children.allTests()) {
      const { state } = test.result()
      if (state === 'passed') passed += 1
      else if (state === 'skipped') skipped += 1
      else failedHere += 1
    }
    // A module that failed without a failed test: it did not load, or a hook threw.
    failed += failedHere === 0 && module.state() === 'failed' ? 1 : failedHere
  }
  return { passed, failed, skipped }
}
