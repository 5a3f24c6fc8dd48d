/**
 * `npm run mutants -- [--only NAME,…] [--json]`: plants each bug of the table in a copy of the
 * tree, one at a time, and runs the tests that must catch it. The same tests pass before, or
 * nothing would be proven. stdout is the table, or with --json one JSON object; exit code 1 when a
 * bug survives or has no place in the tree any more.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CliError } from '../lib/cli-error.ts'
import { prepareNative } from '../setup/prepare.ts'
import { runNarrowTests } from './narrow-tests.ts'
import { type PlantedBug, plant } from './planted-bug.ts'
import { PLANTED_BUGS } from './planted-bugs.ts'
import { copyTree } from './tree-copy.ts'

interface BugOutcome {
  readonly bug: string
  readonly file: string
  readonly harm: string
  /** Name of the first test that failed; null = the bug survived. */
  readonly caught_by: string | null
  readonly failed_tests: number
  readonly seconds: number
}

/** For all of them together. */
const TESTS_TIMEOUT_MS = 1_200_000

const USAGE = 'npm run mutants -- [--only NAME,…] [--json]'

export async function runMutants(
  projectRoot: string,
  args: readonly string[],
  note: (text: string) => void,
): Promise<number> {
  const { bugs, isJson } = parseMutantArgs(args)
  await prepareNative(note)
  const copy = copyTree(projectRoot)
  try {
    assertTestsPass(copy.root, bugs, note)
    const outcomes = bugs.map((bug) => plantAndTest(copy.root, bug, note))
    const survived = outcomes.filter(({ caught_by }) => caught_by === null).length
    const report = {
      date: new Date().toISOString(),
      machine: `${process.platform} ${process.arch}, ${cpus().length} cores, ${cpus()[0]?.model}`,
      planted: outcomes.length,
      caught: outcomes.length - survived,
      survived,
      bugs: outcomes,
    }
    process.stdout.write(isJson ? `${JSON.stringify(report)}\n` : toTable(outcomes))
    return survived === 0 ? 0 : 1
  } finally {
    copy.remove()
  }
}

function parseMutantArgs(args: readonly string[]): { bugs: PlantedBug[]; isJson: boolean } {
  let values: { only?: string; json?: boolean }
  try {
    const options = { only: { type: 'string' }, json: { type: 'boolean' } } as const
    values = parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
  const names = values.only?.split(',') ?? PLANTED_BUGS.map(({ name }) => name)
  const unknown = names.filter((name) => !PLANTED_BUGS.some((bug) => bug.name === name))
  if (unknown.length > 0) {
    throw new CliError('usage', `--only: no planted bug is called ${unknown.join(', ')}`, USAGE)
  }
  return {
    bugs: PLANTED_BUGS.filter(({ name }) => names.includes(name)),
    isJson: values.json ?? false,
  }
}

/** Every test that a bug relies on, once: all at a time that are narrowed by the same words. */
function assertTestsPass(
  root: string,
  bugs: readonly PlantedBug[],
  note: (text: string) => void,
): void {
  for (const [named, alike] of Map.groupBy(bugs, (bug) => bug.named)) {
    const tests = [...new Set(alike.flatMap((bug) => bug.tests))]
    const words = named === undefined ? '' : ` ("${named}")`
    const narrow = named === undefined ? { tests } : { tests, named }
    const { passed, files, failures, output } = runNarrowTests(root, narrow, TESTS_TIMEOUT_MS)
    note(`${tests.length} places${words}: ${passed} tests pass without a bug`)
    const idle = alike.find(
      (bug) => !bug.tests.some((test) => files.some((file) => file.includes(test))),
    )
    if (failures.length === 0 && idle === undefined) continue
    const problem = failures[0] ?? `no test of ${idle?.name} ran: ${output}`
    throw new CliError('unexpected', `the tests${words} must pass without a bug: ${problem}`)
  }
}

function plantAndTest(root: string, bug: PlantedBug, note: (text: string) => void): BugOutcome {
  const path = join(root, bug.file)
  const sound = readFileSync(path, 'utf8')
  const startMs = performance.now()
  writeFileSync(path, plant(sound, bug))
  try {
    const { failures } = runNarrowTests(root, bug)
    const seconds = Math.round((performance.now() - startMs) / 100) / 10
    note(`${bug.name}: ${failures.length === 0 ? 'SURVIVED' : 'caught'} (${seconds} s)`)
    return {
      bug: bug.name,
      file: bug.file,
      harm: bug.harm,
      caught_by: failures[0] ?? null,
      failed_tests: failures.length,
      seconds,
    }
  } finally {
    writeFileSync(path, sound)
  }
}

function toTable(outcomes: readonly BugOutcome[]): string {
  const rows = outcomes.map(({ bug, file, caught_by, seconds }) => [
    bug,
    file,
    caught_by ?? 'SURVIVED',
    seconds.toFixed(1),
  ])
  const table = [['bug', 'file', 'caught by', 'seconds'], ...rows]
  const widths = [0, 1, 2, 3].map((i) => Math.max(...table.map((row) => row[i]?.length ?? 0)))
  return table
    .map((row) => `${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('')
}
