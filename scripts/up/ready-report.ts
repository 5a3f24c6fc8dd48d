/** What `nozzle up` says once it serves: where, which models, a line that works. Never a secret. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DataDir } from '../lib/data-dir.ts'
import { toCurlLine } from '../lib/deploy-adapter.ts'
import { quoteForShell } from '../lib/output.ts'
import type { DemoModel } from './demo-content.ts'

export interface ReadyFacts {
  readonly edgeUrl: string
  readonly baseModel: string
  readonly models: readonly DemoModel[]
  readonly dir: DataDir
  readonly projectRoot: string
}

export function toReadyReport(facts: ReadyFacts): { json: unknown; text: string } {
  const { edgeUrl, baseModel, models, dir } = facts
  const curl = toDemoCurl(facts)
  const logs = ['edge.log', 'host.log'].map((name) => join(dir.logs, name))
  const width = Math.max(baseModel.length, ...models.map(({ name }) => name.length))
  const text = [
    'ready',
    `  base URL     ${edgeUrl}/v1`,
    `  base model   ${baseModel}`,
    ...models.map(({ name, endpoint }) => `  model        ${name.padEnd(width)}  ${endpoint}`),
    `  demo key     in ${dir.demoKeyFile} (readable by you alone)`,
    `  logs         ${logs.join(', ')}`,
    '  stop         Ctrl-C: running answers are finished first',
    '',
    'try it:',
    `  ${curl}`,
  ]
  const json = {
    status: 'ready',
    base_url: `${edgeUrl}/v1`,
    base_model: baseModel,
    models: models.map(({ name, endpoint }) => ({ name, endpoint })),
    demo_key_file: dir.demoKeyFile,
    logs,
    curl,
  }
  return { json, text: text.join('\n') }
}

/** Asks the first model what it was made for; without one, the base model. */
function toDemoCurl({ edgeUrl, baseModel, models, dir, projectRoot }: ReadyFacts): string {
  const keyText = `$(cat ${quoteForShell(dir.demoKeyFile)})`
  const favourite = models.find(({ name }) => name === 'ticket-triage') ?? models[0]
  if (favourite) {
    return toCurlLine(favourite.endpoint, keyText, examplePrompt(projectRoot, favourite.name))
  }
  return toCurlLine(`${edgeUrl}/v1`, keyText, 'What is a LoRA adapter?', baseModel)
}

function examplePrompt(projectRoot: string, model: string): string {
  try {
    const cases = readFileSync(join(projectRoot, 'examples', 'eval', `${model}.jsonl`), 'utf8')
    const { prompt } = JSON.parse(cases.split('\n')[0] ?? '')
    if (typeof prompt === 'string') return prompt
  } catch {
    // No held-out cases for this model: any question will do.
  }
  return 'Hello'
}
