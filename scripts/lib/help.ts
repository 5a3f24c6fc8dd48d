/** Help texts, written from what the commands declare. */
import type { FlagSpecs } from './argv.ts'
import { EXIT_CODES } from './cli-error.ts'
import type { Command } from './command.ts'

/** Flags of every command. */
export const COMMON_FLAGS: FlagSpecs = {
  json: { type: 'boolean', help: 'one JSON document on stdout instead of text' },
  help: { type: 'boolean', help: 'this text' },
}

export function formatOverview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => usageOf(command).length))
  return [
    'nozzle: serve many fine-tuned models (LoRA adapters) from one always-warm base model',
    '',
    'usage: nozzle <command> [arguments] [flags]',
    '',
    ...commands.map((command) => `  ${usageOf(command).padEnd(width)}  ${command.summary}`),
    '',
    'Data goes to stdout, everything else to stderr; --json everywhere.',
    '`nozzle <command> --help` shows its flags and examples.',
    '',
    `exit codes: 0 done, ${formatExitCodes()}`,
  ].join('\n')
}

export function formatCommandHelp(command: Command): string {
  const flags = Object.entries({ ...command.flags, ...COMMON_FLAGS }).map(
    ([name, { value, help }]) => [`--${name}${value ? ` <${value}>` : ''}`, help] as const,
  )
  const width = Math.max(...flags.map(([flag]) => flag.length))
  return [
    `nozzle ${usageOf(command)} [flags]`,
    `  ${command.summary}`,
    ...(command.details ? ['', command.details] : []),
    '',
    'flags:',
    ...flags.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`),
    '',
    'examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}

function usageOf({ name, positionals }: Command): string {
  return [name, ...positionals].join(' ')
}

function formatExitCodes(): string {
  return Object.entries(EXIT_CODES)
    .map(([reason, code]) => `${code} ${reason.replaceAll('_', ' ')}`)
    .join(', ')
}
