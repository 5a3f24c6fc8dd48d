/**
 * `npm run soak -- --schemathesis [--examples N] [--seed S]`: the long version of
 * `edge/test/schemathesis.test.ts`, with its examples and its coverage of each parameter, too.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CliError } from '../lib/cli-error.ts'
import { tryPythonPackages } from '../setup/python-packages.ts'

const EXAMPLES = 200
const USAGE = 'npm run soak -- --schemathesis [--examples N] [--seed S]'

export async function runSchemathesisSoak(
  root: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  note: (text: string) => void,
): Promise<number> {
  const { examples, seed } = parse(args)
  const packages = tryPythonPackages(root, note)
  if ('missing' in packages) throw new CliError('missing_prerequisite', packages.missing)
  const entry = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const test = ['run', '--project', 'edge', 'edge/test/schemathesis']
  const child = spawn(process.execPath, [entry, ...test], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env: {
      ...env,
      NOZZLE_TEST_PYTHON_PACKAGES: packages.path,
      NOZZLE_SCHEMATHESIS_EXAMPLES: String(examples),
      NOZZLE_SCHEMATHESIS_SEED: String(seed),
    },
  })
  const [code] = await once(child, 'exit')
  const report = { date: new Date().toISOString(), examples, seed, ok: code === 0 }
  process.stdout.write(`${JSON.stringify(report)}\n`)
  return code === 0 ? 0 : 1
}

function parse(args: readonly string[]): { examples: number; seed: number } {
  const options = {
    schemathesis: { type: 'boolean' },
    examples: { type: 'string' },
    seed: { type: 'string' },
  } as const
  let values: { examples?: string; seed?: string }
  try {
    values = parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
  const examples = Number(values.examples ?? EXAMPLES)
  const seed = Number(values.seed ?? 1)
  for (const [name, value] of Object.entries({ examples, seed })) {
    if (Number.isInteger(value) && value > 0) continue
    throw new CliError('usage', `--${name} must be a whole number above 0`, USAGE)
  }
  return { examples, seed }
}
