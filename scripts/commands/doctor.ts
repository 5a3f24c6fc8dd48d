/**
 * `nozzle doctor`: everything a pool on this machine needs, looked at without changing anything.
 */
import { CliError } from '../lib/cli-error.ts'
import type { Command } from '../lib/command.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { DOCTOR_CHECKS } from '../setup/doctor-checks.ts'

const MARKS = { ok: 'ok  ', warn: 'warn', fail: 'FAIL' } as const

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'look for what is missing on this machine',
  positionals: [],
  flags: {},
  details: 'Exits 0 when a pool can run here (warnings allowed), 7 when something is missing.',
  examples: ['nozzle doctor', 'nozzle doctor --json'],
  async run({ env, projectRoot, output }) {
    const place = { env, projectRoot, dir: locateDataDir(env, projectRoot) }
    const checks = []
    for (const { name, run } of DOCTOR_CHECKS) checks.push({ name, ...(await run(place)) })
    const text = checks.map(({ name, status, detail, fix }) => {
      const line = `${MARKS[status]}  ${name.padEnd(14)}  ${detail}`
      return fix === null ? line : `${line}\n      fix: ${fix}`
    })
    output.data({ checks }, text.join('\n'))
    const failed = checks.filter(({ status }) => status === 'fail').map(({ name }) => name)
    if (failed.length > 0) throw new CliError('missing_prerequisite', failed.join(', '))
  },
}
