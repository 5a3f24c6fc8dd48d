/**
 * `npm run soak -- --security [--only WORDS] [--seed S]`: the suites of the front door at full
 * length, one after the other. The last line of stdout is the report, with what each suite
 * measured; exit code 1 = a finding, whose replay is in it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CliError } from '../lib/cli-error.ts'

const USAGE = 'npm run soak -- --security [--only WORDS] [--seed S]'
const SUITES = [
  'gpu-host/test/forged-grants',
  'gpu-host/test/callers',
  'edge/auth/host-signature',
  'edge/test/route-access',
  'edge/test/confusion',
  'edge/test/revocation.test',
  'edge/test/revocation-live',
  'edge/test/wrong-keys',
  'edge/test/slow-clients',
  'edge/test/idle-sockets',
  'edge/test/no-leaks',
]

export async function runSecuritySoak(
  root: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<number> {
  const { only, seed } = parse(args)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-security-'))
  const reportPath = join(scratch, 'report.jsonl')
  writeFileSync(reportPath, '')
  const startMs = performance.now()
  try {
    const entry = join(root, 'node_modules', 'vitest', 'vitest.mjs')
    const chosen = SUITES.filter((suite) => suite.includes(only))
    // One at a time: what is measured is measured alone.
    const test = ['run', ...chosen, '--no-file-parallelism', '--maxWorkers=1']
    const child = spawn(process.execPath, [entry, ...test], {
      cwd: root,
      stdio: ['ignore', 2, 2],
      env: { ...env, NOZZLE_SECURITY_SEED: String(seed), NOZZLE_SECURITY_REPORT: reportPath },
    })
    const [code] = await once(child, 'exit')
    const report = {
      date: new Date().toISOString(),
      machine: `${process.platform} ${process.arch}, ${cpus().length} cores, ${cpus()[0]?.model}`,
      ...{ seed, ok: code === 0, seconds: Math.round((performance.now() - startMs) / 1000) },
      replay: `npm run soak -- --security --seed ${seed}`,
      suites: readFileSync(reportPath, 'utf8')
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .map((line): unknown => JSON.parse(line)),
    }
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return code === 0 ? 0 : 1
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function parse(args: readonly string[]): { only: string; seed: number } {
  const string = { type: 'string' } as const
  const options = { security: { type: 'boolean' }, only: string, seed: string } as const
  let values: { only?: string; seed?: string }
  try {
    values = parseArgs({ args: [...args], options }).values
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
  const { only = '' } = values
  if (!SUITES.some((suite) => suite.includes(only))) {
    throw new CliError('usage', `--only: no suite is called ${only}`, USAGE)
  }
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31) {
    throw new CliError('usage', '--seed must be an integer from 0 to 2147483647', USAGE)
  }
  return { only, seed }
}
