/** A host's settings in a file, as `nozzle host add --write-env` writes it. */
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { callerPath } from './caller-path.ts'
import { CliError } from './cli-error.ts'
import type { CommandContext } from './command.ts'

/** Throws `not_found`. */
export function readEnvFile(
  context: Pick<CommandContext, 'env' | 'projectRoot'>,
  path: string,
): NodeJS.Dict<string> {
  const absolute = callerPath(context, path)
  try {
    return parseEnv(readFileSync(absolute, 'utf8'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const fix = 'Name a file that `nozzle host add --write-env` wrote.'
    throw new CliError('not_found', `--env ${absolute} cannot be read: ${reason}`, fix)
  }
}
