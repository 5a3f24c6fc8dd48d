/**
 * argv → command → exit code. Invariant: an expected failure prints `error:` and, where known,
 * `fix:` on stderr, and exits with its code from lib/cli-error.ts.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chatCommand } from './commands/chat.ts'
import { checkCommand } from './commands/check.ts'
import { completionCommand } from './commands/completion.ts'
import { deployCommand } from './commands/deploy.ts'
import { doctorCommand } from './commands/doctor.ts'
import { helpCommand } from './commands/help.ts'
import { hostCommands } from './commands/host.ts'
import { hostRunCommand } from './commands/host-elsewhere.ts'
import { hostPoolCommands } from './commands/host-pool.ts'
import { invoiceCommands } from './commands/invoice.ts'
import { keyCommands } from './commands/key.ts'
import { limitCommands } from './commands/limit.ts'
import { loginCommands } from './commands/login.ts'
import { logsCommand } from './commands/logs.ts'
import { modelCommands } from './commands/model.ts'
import { priceCommands } from './commands/price.ts'
import { profileCommands } from './commands/profile.ts'
import { reconcileCommand } from './commands/reconcile.ts'
import { releaseCommands } from './commands/release.ts'
import { savingsCommands } from './commands/savings.ts'
import { storeCommands } from './commands/store.ts'
import { tenantCommands } from './commands/tenant.ts'
import { upCommand } from './commands/up.ts'
import { usageCommand } from './commands/usage.ts'
import { parseArguments } from './lib/argv.ts'
import { CliError, EXIT_CODES } from './lib/cli-error.ts'
import { hasColour, paintOn } from './lib/colour.ts'
import type { Command, CommandContext } from './lib/command.ts'
import { findCommand, helpTopic } from './lib/find-command.ts'
import { COMMON_FLAGS } from './lib/help.ts'
import { createOutput, type TextSink } from './lib/output.ts'
import type { Ask } from './lib/terminal-question.ts'

export const COMMANDS: readonly Command[] = [
  upCommand,
  doctorCommand,
  logsCommand,
  ...tenantCommands,
  ...keyCommands,
  ...limitCommands,
  checkCommand,
  deployCommand,
  ...modelCommands,
  ...hostCommands,
  ...hostPoolCommands,
  hostRunCommand,
  chatCommand,
  usageCommand,
  ...invoiceCommands,
  ...priceCommands,
  ...savingsCommands,
  reconcileCommand,
  ...storeCommands,
  ...releaseCommands,
  ...loginCommands,
  ...profileCommands,
  completionCommand(() => COMMANDS),
  helpCommand(() => COMMANDS),
]

export interface CliHost extends Omit<CommandContext, 'output' | 'ask'> {
  readonly stdout: TextSink
  readonly stderr: TextSink
  /** Absent = nobody can be asked. */
  readonly ask?: Ask | null
}

/** Runs one command line. Resolves to the exit code; throws nothing. */
export async function runCli(argv: readonly string[], host: CliHost): Promise<number> {
  const { stdout, stderr, ask = null, ...context } = host
  // Known before the flags are parsed, since parsing them may be what fails.
  const isJson = argv.includes('--json')
  const hasInput = !argv.includes('--no-input')
  const output = createOutput(isJson, stdout, stderr, host.env)
  const { readStdin } = context
  const input = hasInput ? { ask, readStdin } : { ask: null, readStdin: null }
  try {
    const [first] = argv
    if (first === '--version' || first === '-V') {
      const version = readVersion(host.projectRoot)
      output.data({ version }, `nozzle ${version}`)
      return 0
    }
    const topic = helpTopic(COMMANDS, argv)
    const asked = topic === null ? argv : ['help', ...topic, ...(isJson ? ['--json'] : [])]
    const found = findCommand(COMMANDS, asked)
    await runCommand(found.command, found.rest, { ...context, ...input, output })
    return 0
  } catch (error) {
    const isInterrupted = host.signal.aborted && !(error instanceof CliError)
    const failure = isInterrupted ? new CliError('interrupted', 'interrupted') : error
    printFailure(failure, isJson, host)
    return failure instanceof CliError ? failure.exitCode : EXIT_CODES.unexpected
  }
}

function readVersion(projectRoot: string): string {
  const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'))
  return String(version)
}

async function runCommand(
  command: Command,
  args: readonly string[],
  context: CommandContext,
): Promise<void> {
  try {
    const flags = { ...command.flags, ...COMMON_FLAGS }
    await command.run({ ...context, ...parseArguments(args, flags, command.positionals) })
  } catch (error) {
    const isBareUsageError = error instanceof CliError && error.reason === 'usage' && !error.fix
    if (!isBareUsageError) throw error
    throw new CliError('usage', error.message, `See \`nozzle ${command.name} --help\`.`)
  }
}

function printFailure(error: unknown, isJson: boolean, { stderr, env }: CliHost): void {
  if (!(error instanceof CliError)) {
    stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    return
  }
  const { reason, exitCode: exit_code, message, fix } = error
  if (isJson) {
    stderr.write(`${JSON.stringify({ error: { code: reason, exit_code, message, fix } })}\n`)
    return
  }
  const paint = paintOn(hasColour(env, stderr.isTTY === true))
  stderr.write(`${paint('bad', 'error:')} ${message}\n`)
  if (fix) stderr.write(`${paint('heading', 'fix:')} ${fix}\n`)
}
