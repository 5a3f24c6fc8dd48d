/**
 * `npm run soak -- --bad-inputs [--only ID,…]`: every bad input of `test/bad-inputs`, with a sound
 * request after each. The last line of stdout is the report, by class; exit code 1 = a case that
 * was answered otherwise than it must be, a process that ended, or a sound request not served.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { CliError } from '../lib/cli-error.ts'
import { prepareNative } from '../setup/prepare.ts'

const USAGE = 'npm run soak -- --bad-inputs [--only ID,…]'

const findings = z.looseObject({
  classes: z.array(z.looseObject({ cases: z.int(), seconds: z.number(), good_requests: z.int() })),
  faults: z.array(z.string()),
  exits: z.int(),
})

export async function runBadInputsSoak(
  root: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  note: (text: string) => void,
): Promise<number> {
  const only = parseOnly(args)
  await prepareNative(note)
  const scratch = mkdtempSync(join(tmpdir(), 'nozzle-soak-'))
  const reportPath = join(scratch, 'bad-inputs.json')
  const entry = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  try {
    const child = spawn(
      process.execPath,
      [entry, 'run', '--project', 'e2e', 'test/55.bad-inputs'],
      {
        cwd: root,
        stdio: ['ignore', 2, 2],
        env: {
          ...env,
          NOZZLE_BAD_INPUTS_GOOD_EVERY: '1',
          NOZZLE_BAD_INPUTS_REPORT: reportPath,
          ...(only !== null && { NOZZLE_BAD_INPUTS: only }),
        },
      },
    )
    const [code] = await once(child, 'exit')
    const { classes, faults, exits } = findings.parse(JSON.parse(readFileSync(reportPath, 'utf8')))
    const sum = (of: (one: (typeof classes)[number]) => number): number =>
      classes.reduce((total, one) => total + of(one), 0)
    const report = {
      date: new Date().toISOString(),
      machine: `${process.platform} ${process.arch}, ${cpus().length} cores, ${cpus()[0]?.model}`,
      cases: sum(({ cases }) => cases),
      good_requests: sum(({ good_requests }) => good_requests),
      exits,
      faults,
      seconds: Math.round(sum(({ seconds }) => seconds)),
      classes,
    }
    process.stdout.write(`${JSON.stringify(report)}\n`)
    return code === 0 ? 0 : 1
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function parseOnly(args: readonly string[]): string | null {
  try {
    const options = { 'bad-inputs': { type: 'boolean' }, only: { type: 'string' } } as const
    return parseArgs({ args: [...args], options }).values.only ?? null
  } catch (error) {
    throw new CliError('usage', error instanceof Error ? error.message : String(error), USAGE)
  }
}
