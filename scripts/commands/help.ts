/** `nozzle help`: the overview, the help of a command, and what is about all of them. */
import { CliError } from '../lib/cli-error.ts'
import type { Command, CommandCall } from '../lib/command.ts'
import { verbsOf } from '../lib/find-command.ts'
import { COMMON_FLAGS, exitCodeRows, formatCommandHelp, formatOverview } from '../lib/help.ts'
import { nearest } from '../lib/nearest.ts'

const ENVIRONMENT = `Which edge, first of these that is there:
  --edge-url, NOZZLE_EDGE_URL
  the profile: --profile, NOZZLE_PROFILE, else the one of \`nozzle login\` or \`nozzle profile use\`
  the pool that \`nozzle up\` runs from the data directory
With which key:
  --api-key, NOZZLE_API_KEY
  the profile's, which goes to its own edge and to no other
  of the data directory: the operator key (\`chat\`: the demo key)
For which tenant:
  --tenant, NOZZLE_TENANT, the profile's, that of the key, and \`demo\` with the pool here

NOZZLE_DATA_DIR    the pool here (default .nozzle in the checkout); while it is set, the profile of
                   \`nozzle login\` is not taken, only one that --profile or NOZZLE_PROFILE names
NOZZLE_CONFIG      the file of the profiles (default nozzle/config.json in XDG_CONFIG_HOME, else in
                   ~/.config; on Windows in APPDATA), readable by you alone
NO_COLOR           any value: no colour. TERM=dumb: no colour, and no line drawn twice.
FORCE_COLOR        1: colour into a pipe, too
An empty variable counts as not set.`

const FAILURE_IN_JSON = [
  'With --json a failure is one line on stderr:',
  '  {"error":{"code":"not_found","exit_code":3,"message":"…","fix":"…"}}',
]

/** Topics that are no command. */
export const TOPICS = ['exit-codes', 'environment'] as const

/** @param commands asked when it runs: this command is one of them. */
export function helpCommand(commands: () => readonly Command[]): Command {
  return {
    name: 'help',
    summary: 'this list, the help of a command, or a topic: exit-codes, environment',
    positionals: ['[topic]', '[verb]'],
    flags: {},
    details: 'With --json: what the commands declare, for tools.',
    examples: [
      'nozzle help',
      'nozzle help model split',
      'nozzle help exit-codes',
      'nozzle help environment',
      "nozzle help --json | jq -r '.commands[].name'",
    ],
    run: async (call) => explain(call, commands()),
  }
}

function explain(call: CommandCall, commands: readonly Command[]): void {
  const { output } = call
  const topic = call.positionals.join(' ')
  if (topic === 'exit-codes') {
    const done = { code: 0, reason: 'done', meaning: 'done' }
    const rows = [done, ...exitCodeRows()]
    const lines = rows.map(({ code, meaning }) => `${String(code).padStart(3)}  ${meaning}`)
    output.data({ exit_codes: rows }, [...lines, '', ...FAILURE_IN_JSON].join('\n'))
    return
  }
  if (topic === 'environment') {
    output.data({ environment: ENVIRONMENT }, ENVIRONMENT)
    return
  }
  const found = topic === '' ? commands : membersOf(commands, topic)
  const text =
    topic === ''
      ? formatOverview(commands, output.paint)
      : found.map((command) => formatCommandHelp(command, output.paint)).join('\n\n')
  output.data({ commands: found.map(toJson) }, text)
}

/** The command of that name, or all that begin with it. */
function membersOf(commands: readonly Command[], topic: string): readonly Command[] {
  const exact = commands.filter(({ name }) => name === topic)
  const found = exact.length > 0 ? exact : verbsOf(commands, topic)
  if (found.length > 0) return found
  const meant = nearest(topic, [...commands.map(({ name }) => name), ...TOPICS])
  const fix = meant === null ? 'See `nozzle help`.' : `Did you mean \`nozzle help ${meant}\`?`
  throw new CliError('usage', `there is no help on "${topic}"`, fix)
}

function toJson({ name, summary, positionals, flags, details, examples }: Command) {
  const all = { ...flags, ...COMMON_FLAGS }
  return { name, summary, positionals, flags: all, details: details ?? null, examples }
}
