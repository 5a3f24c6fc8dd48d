/** Help texts, written from what the commands declare. */
import type { FlagSpec, FlagSpecs } from './argv.ts'
import { EXIT_CODES, EXIT_MEANINGS } from './cli-error.ts'
import type { Paint } from './colour.ts'
import type { Command } from './command.ts'

/** Flags of every command. */
export const COMMON_FLAGS: FlagSpecs = {
  json: {
    type: 'boolean',
    help: 'one JSON document on stdout instead of text; one a line where it goes on',
  },
  'no-input': {
    type: 'boolean',
    help: 'ask nothing and read no stdin: what is missing is an error that names it',
  },
  help: { type: 'boolean', short: 'h', help: 'this text' },
}

/** By the first word of a command; those that are not here come last. */
const GROUPS: readonly (readonly [heading: string, nouns: readonly string[]])[] = [
  ['A pool', ['up', 'doctor', 'logs', 'host', 'store', 'release']],
  ['Models', ['check', 'deploy', 'model', 'chat']],
  ['Tenants', ['tenant', 'key', 'limit']],
  ['Money', ['usage', 'invoice', 'price', 'savings', 'reconcile']],
  ['This tool', ['login', 'logout', 'whoami', 'profile', 'completion', 'help']],
]

const FIRST_STEPS = [
  'nozzle up                                     a pool on this machine, until Ctrl-C',
  'nozzle deploy ./my-adapter --model triage     serve an adapter that PEFT saved',
  "nozzle chat triage 'The app crashes'          ask it",
  'nozzle logs -f                                see its requests as they come',
]

/** The few commands that are longer push their own summary to the right, and no others'. */
const USAGE_COLUMNS_MAX = 32

export function formatOverview(commands: readonly Command[], paint: Paint): string {
  const widths = commands.map((command) => usageOf(command).length)
  const width = Math.max(...widths.filter((length) => length <= USAGE_COLUMNS_MAX))
  const line = (command: Command): string =>
    `  ${usageOf(command).padEnd(width)}  ${command.summary}`
  const grouped = GROUPS.map(([heading, nouns]) => ({
    heading,
    members: commands.filter((command) => nouns.includes(nounOf(command))),
  }))
  const known = new Set(grouped.flatMap(({ members }) => members))
  const others = commands.filter((command) => !known.has(command))
  const sections = [...grouped, { heading: 'Others', members: others }]
    .filter(({ members }) => members.length > 0)
    .flatMap(({ heading, members }) => [paint('heading', heading), ...members.map(line), ''])
  return [
    'nozzle: serve many fine-tuned models (LoRA adapters) from one always-warm base model',
    '',
    'usage: nozzle <command> [arguments] [flags]',
    '',
    paint('heading', 'First steps'),
    ...FIRST_STEPS.map((step) => `  ${step}`),
    '',
    ...sections,
    'Data goes to stdout, everything else to stderr; --json everywhere.',
    '`nozzle <command> --help` shows its flags and examples. `nozzle help exit-codes` and',
    '`nozzle help environment` are about all of them; `nozzle --version` says which this is.',
  ].join('\n')
}

export function formatCommandHelp(command: Command, paint: Paint): string {
  const flags = Object.entries({ ...command.flags, ...COMMON_FLAGS }).map(
    ([name, spec]) => [flagText(name, spec), spec.help] as const,
  )
  const width = Math.max(...flags.map(([flag]) => flag.length))
  return [
    `nozzle ${usageOf(command)} [flags]`,
    `  ${command.summary}`,
    ...(command.details ? ['', command.details] : []),
    '',
    paint('heading', 'flags:'),
    ...flags.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`),
    '',
    paint('heading', 'examples:'),
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}

/** The table of exit codes, one a row, without the code of success. */
export function exitCodeRows(): readonly { code: number; reason: string; meaning: string }[] {
  const codes: Readonly<Record<string, number>> = EXIT_CODES
  return Object.entries(EXIT_MEANINGS).map(([reason, meaning]) => {
    return { code: codes[reason] ?? EXIT_CODES.unexpected, reason, meaning }
  })
}

export function usageOf({ name, positionals }: Command): string {
  return [name, ...positionals].join(' ')
}

function nounOf({ name }: Command): string {
  return name.split(' ')[0] ?? name
}

function flagText(name: string, { short, value }: FlagSpec): string {
  return `${short ? `-${short}, ` : ''}--${name}${value ? ` <${value}>` : ''}`
}
