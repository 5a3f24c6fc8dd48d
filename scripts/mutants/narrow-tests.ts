/**
 * The tests that must catch a bug, in a process of their own. Only a test that ran and failed
 * counts as a catch: a file that does not load says nothing of the bug.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { PlantedBug } from './planted-bug.ts'

export interface NarrowOutcome {
  readonly passed: number
  /** Absolute paths of the files in which a test passed. */
  readonly files: readonly string[]
  /** Full names of the tests that failed. */
  readonly failures: readonly string[]
  /** For the reader, where nothing ran. */
  readonly output: string
}

const report = z.object({
  numPassedTests: z.int(),
  testResults: z.array(
    z.object({
      name: z.string(),
      assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })),
    }),
  ),
})

/** A bug may also hang its test. */
const TIMEOUT_MS = 300_000
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024

export function runNarrowTests(
  root: string,
  { tests, named }: Pick<PlantedBug, 'tests' | 'named'>,
  timeoutMs = TIMEOUT_MS,
): NarrowOutcome {
  const outputFile = join(root, 'mutant-report.json')
  rmSync(outputFile, { force: true })
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      ...['run', ...tests, '--bail=1', '--reporter=json', `--outputFile=${outputFile}`],
      ...(named === undefined ? [] : ['-t', named]),
    ],
    { cwd: root, encoding: 'utf8', timeout: timeoutMs, maxBuffer: OUTPUT_BYTES_MAX },
  )
  const output = `${stdout}${stderr}`.slice(-2000)
  try {
    const { numPassedTests, testResults } = report.parse(
      JSON.parse(readFileSync(outputFile, 'utf8')),
    )
    const failures = testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status === 'failed')
      .map(({ fullName }) => fullName.trim())
    const files = testResults
      .filter(({ assertionResults }) => assertionResults.some(({ status }) => status === 'passed'))
      .map(({ name }) => name)
    return { passed: numPassedTests, files, failures, output }
  } catch {
    return { passed: 0, files: [], failures: [], output }
  }
}
