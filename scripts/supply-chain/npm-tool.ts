/** npm itself, as whoever runs this has it. */
import { spawnSync } from 'node:child_process'
import { CliError } from '../lib/cli-error.ts'

export interface ToolOutcome {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** Throws CliError `missing_prerequisite` where there is no npm. */
export function runNpm(root: string, args: readonly string[]): ToolOutcome {
  const { status, stdout, stderr, error } = spawnSync('npm', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: 120_000,
  })
  if (error !== undefined) {
    throw new CliError('missing_prerequisite', `npm: ${error.message}`, 'It comes with Node.js.')
  }
  return { exitCode: status ?? 1, stdout, stderr }
}
