/**
 * Whether a model's answer is right: JSON is compared as a value, SQL by the rows it returns from
 * the fixture database, text letter by letter.
 */
import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'

const evalCase = z.object({
  prompt: z.string(),
  expected: z.string(),
  check: z.enum(['json', 'sql', 'exact']),
})
export type EvalCase = z.infer<typeof evalCase>

export type AnswerCheck = (answer: string, expected: string) => boolean

/** The held-out cases of a task. Throws when a line is not a case. */
export function readCases(path: string): EvalCase[] {
  return readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => evalCase.parse(JSON.parse(line)))
}

/** @param fixture SQL that creates and fills the tables the `sql` cases ask about. */
export function createChecks(fixture: string): Record<EvalCase['check'], AnswerCheck> {
  const database = new DatabaseSync(':memory:')
  database.exec(fixture)
  // Answers are run as they come: they may read and nothing else.
  database.exec('PRAGMA query_only = 1')
  return {
    exact: (answer, expected) => answer.trim() === expected,
    json: (answer, expected) => isDeepStrictEqual(parseJson(answer), JSON.parse(expected)),
    sql: (answer, expected) => {
      const rows = runQuery(database, answer)
      return rows !== null && isDeepStrictEqual(rows, runQuery(database, expected))
    },
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Rows as sorted JSON lines, since no question asks for an order; null when it does not run. */
function runQuery(database: DatabaseSync, sql: string): string[] | null {
  try {
    const rows = database.prepare(sql).all()
    return rows.map((row) => JSON.stringify(Object.values(row))).sort()
  } catch {
    return null
  }
}
