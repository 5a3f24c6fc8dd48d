/** The example models' held-out cases, as the tests use them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createChecks, type EvalCase } from '../../examples/check-answer.ts'
import { EXAMPLE_TASKS, type ExampleTask, readTaskCases } from '../../examples/eval.ts'
import { PROJECT_ROOT } from './nozzle.ts'

export { EXAMPLE_TASKS, type ExampleTask }

/** Longer than any expected answer. */
export const ANSWER_TOKENS_MAX = 64

const FIXTURE = join(PROJECT_ROOT, 'examples', 'eval', 'text-to-sql.fixture.sql')
const checks = createChecks(readFileSync(FIXTURE, 'utf8'))

export function isRight({ check, expected }: EvalCase, answer: string): boolean {
  return checks[check](answer, expected)
}

/** The first `count` cases. */
export function casesOf(task: ExampleTask, count: number): EvalCase[] {
  const cases = readTaskCases(task).slice(0, count)
  if (cases.length < count) throw new Error(`${task} has fewer than ${count} cases`)
  return cases
}

/** The first case: for tests that ask the same thing again and again. */
export function caseOf(task: ExampleTask): EvalCase {
  const [first] = casesOf(task, 1)
  if (!first) throw new Error(`${task} has no case`)
  return first
}

export function adapterDirectory(task: ExampleTask): string {
  return join(PROJECT_ROOT, 'examples', 'adapters', task)
}
