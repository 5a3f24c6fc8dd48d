/**
 * argv → command → exit code. Invariant: an expected failure prints `error:` and, where known,
 * `fix:` on stderr, and exits with its code from lib/cli-error.ts.
 */
import { chatCommand } from './commands/chat.ts'
import { checkCommand } from './commands/check.ts'
import { deployCommand } from './commands/deploy.ts'
import { doctorCommand } from './commands/doctor.ts'
import { hostCommands } from './commands/host.ts'
import { hostRunCommand } from './commands/host-elsewhere.ts'
import { hostPoolCommands } from './commands/host-pool.ts'
import { invoiceCommands } from './commands/invoice.ts'
import { keyCommands } from './commands/key.ts'
import { limitCommands } from './commands/limit.ts'
import { modelCommands } from './commands/model.ts'
import { priceCommands } from './commands/price.ts'
import { reconcileCommand } from './commands/reconcile.ts'
import { savingsCommands } from './commands/savings.ts'
import { storeCommands } from './commands/store.ts'
import { tenantCommands } from './commands/tenant.ts'
import { upCommand } from './commands/up.ts'
import { usageCommand } from './commands/usage.ts'
import { parseArguments } from './lib/argv.ts'
import { CliError, EXIT_CODES } from './lib/cli-error.ts'
import type { Command, CommandContext } from './lib/command.ts'
import { COMMON_FLAGS, formatCommandHelp, formatOverview } from './lib/help.ts'
import { createOutput, type TextSink } from './lib/output.ts'

export const COMMANDS: readonly Command[] = [
  upCommand,
  doctorCommand,
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
]

export interface CliHost extends Omit<CommandContext, 'output'> {
  readonly stdout: TextSink
  readonly stderr: TextSink
}

/** Runs one command line. Resolves to the exit code; throws nothing. */
export async function runCli(argv: readonly string[], host: CliHost): Promise<number> {
  const { stdout, stderr, ...context } = host
  // Known before the flags are parsed, since parsing them may be what fails.
  const isJson = argv.includes('--json')
  try {
    const found = findCommand(argv)
    if (typeof found === 'string') {
      stdout.write(`${found}\n`)
      return 0
    }
    const { command, rest } = found
    if (rest.includes('--help') || rest.includes('-h')) {
      stdout.write(`${formatCommandHelp(command)}\n`)
      return 0
    }
    await runCommand(command, rest, { ...context, output: createOutput(isJson, stdout, stderr) })
    return 0
  } catch (error) {
    const isInterrupted = host.signal.aborted && !(error instanceof CliError)
    const failure = isInterrupted ? new CliError('interrupted', 'interrupted') : error
    printFailure(failure, isJson, stderr)
    return failure instanceof CliError ? failure.exitCode : EXIT_CODES.unexpected
  }
}

/** The command and its arguments, or a text to print. Throws a `usage` error. */
function findCommand(
  argv: readonly string[],
): { command: Command; rest: readonly string[] } | string {
  const [first, second] = argv
  if (first === undefined || ['--help', '-h', 'help'].includes(first)) {
    return formatOverview(COMMANDS)
  }
  for (const words of [2, 1]) {
    const name = argv.slice(0, words).join(' ')
    const command = COMMANDS.find((known) => known.name === name)
    if (command) return { command, rest: argv.slice(words) }
  }
  const verbs = COMMANDS.filter((known) => known.name.startsWith(`${first} `))
  if (verbs.length > 0) {
    const isAsking = second === undefined || second === '--help' || second === '-h'
    if (isAsking && second) return verbs.map(formatCommandHelp).join('\n\n')
    const names = verbs.map((known) => `\`nozzle ${known.name}\``).join(', ')
    const fix = `one of ${names}`
    if (second === undefined) throw new CliError('usage', `"${first}" alone is no command`, fix)
    throw new CliError('usage', `unknown command "${first} ${second}"`, fix)
  }
  throw new CliError('usage', `unknown command "${first}"`, 'See `nozzle --help`.')
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

function printFailure(error: unknown, isJson: boolean, stderr: TextSink): void {
  if (!(error instanceof CliError)) {
    stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
    return
  }
  const { reason, message, fix } = error
  if (isJson) {
    stderr.write(`${JSON.stringify({ error: { code: reason, message, fix } })}\n`)
    return
  }
  stderr.write(`error: ${message}\n${fix ? `fix: ${fix}\n` : ''}`)
}
