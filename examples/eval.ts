/**
 * `npm run eval`: how often the base model and each example adapter answer the held-out cases
 * rightly, asked over HTTP of the pool that runs from the data directory.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import OpenAI from 'openai'
import { withPool } from '../scripts/up/pool-process.ts'
import { createChecks, type EvalCase, readCases } from './check-answer.ts'

/** Example adapters, which are also the names of their models and of their case files. */
export const EXAMPLE_TASKS = ['ticket-triage', 'text-to-sql', 'pii-redact'] as const
export type ExampleTask = (typeof EXAMPLE_TASKS)[number]

const EVAL_DIR = fileURLToPath(new URL('./eval/', import.meta.url))
/** Longer than any expected answer; a base model that rambles is cut here. */
const COMPLETION_TOKENS_MAX = 80

export interface EvalOptions {
  readonly client: OpenAI
  readonly model: string
  readonly cases: readonly EvalCase[]
  /** Requests in flight. */
  readonly concurrency: number
}

/** Number of right answers. */
export async function countRight(options: EvalOptions): Promise<number> {
  const { client, model, cases, concurrency } = options
  const checks = createChecks(readFileSync(join(EVAL_DIR, 'text-to-sql.fixture.sql'), 'utf8'))
  const waiting = [...cases]
  let right = 0
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const reply = await client.chat.completions.create({
        model,
        messages: [{ role: 'user', content: next.prompt }],
        temperature: 0,
        max_tokens: COMPLETION_TOKENS_MAX,
      })
      const answer = reply.choices[0]?.message.content ?? ''
      if (checks[next.check](answer, next.expected)) right += 1
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return right
}

export function readTaskCases(task: ExampleTask): EvalCase[] {
  return readCases(join(EVAL_DIR, `${task}.jsonl`))
}

interface TaskScore {
  readonly task: ExampleTask
  readonly cases: number
  readonly base_right: number
  readonly adapter_right: number
}

const USAGE = `usage: npm run eval [-- options]
  --cases N        held-out cases per task (default: all, 150)
  --concurrency N  requests in flight (default 8)
  --json           one JSON object on stdout
  --write FILE     keep that JSON in FILE too

Asks the pool that runs from the data directory, or starts one for the time it takes.`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cases: { type: 'string', default: '150' },
      concurrency: { type: 'string', default: '8' },
      json: { type: 'boolean', default: false },
      write: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(`${USAGE}\n`)
    return
  }
  const report = await withPool(async (pool) => {
    const client = new OpenAI({ baseURL: `${pool.edgeUrl}/v1`, apiKey: pool.demoKey })
    const scores: TaskScore[] = []
    for (const task of EXAMPLE_TASKS) {
      const cases = readTaskCases(task).slice(0, Number(values.cases))
      const ask = (model: string): Promise<number> =>
        countRight({ client, model, cases, concurrency: Number(values.concurrency) })
      const score = {
        task,
        cases: cases.length,
        base_right: await ask(pool.baseModel),
        adapter_right: await ask(`demo/${task}`),
      }
      scores.push(score)
      process.stderr.write(`${formatScore(score)}\n`)
    }
    return { measured_at: new Date().toISOString(), base_model: pool.baseModel, tasks: scores }
  })
  const text = JSON.stringify(report)
  if (values.json) process.stdout.write(`${text}\n`)
  if (values.write !== undefined)
    writeFileSync(values.write, `${JSON.stringify(report, null, 2)}\n`)
}

function formatScore(score: TaskScore): string {
  const percent = (right: number): string => `${((100 * right) / score.cases).toFixed(1)}%`
  const base = percent(score.base_right)
  return `${score.task}: base ${base}, adapter ${percent(score.adapter_right)} of ${score.cases} cases`
}

if (import.meta.main) await main()
