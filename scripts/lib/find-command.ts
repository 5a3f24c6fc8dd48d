/** argv → the command that is meant, or what is wrong with its words and which are near. Pure. */
import { CliError } from './cli-error.ts'
import type { Command } from './command.ts'
import { nearest } from './nearest.ts'

export interface FoundCommand {
  readonly command: Command
  readonly rest: readonly string[]
}

/** Commands are one or two words long. Throws a `usage` error. */
export function findCommand(commands: readonly Command[], argv: readonly string[]): FoundCommand {
  const [first = '', second] = argv
  if (first.startsWith('-')) {
    throw new CliError('usage', `${first} comes before a command`, 'Flags follow the command.')
  }
  for (const words of [2, 1]) {
    const name = argv.slice(0, words).join(' ')
    const command = commands.find((known) => known.name === name)
    if (command) return { command, rest: argv.slice(words) }
  }
  const verbs = verbsOf(commands, first)
  if (verbs.length === 0) throw unknownCommand(commands, first, second)
  const names = verbs.map((known) => `\`nozzle ${known.name}\``).join(', ')
  if (second === undefined || second.startsWith('-')) {
    throw new CliError('usage', `"${first}" alone is no command`, `one of ${names}`)
  }
  const typed = `${first} ${second}`
  const meant = nearest(
    typed,
    verbs.map(({ name }) => name),
  )
  const fix = meant === null ? `one of ${names}` : `Did you mean \`nozzle ${meant}\`? Or ${names}.`
  throw new CliError('usage', `unknown command "${typed}"`, fix)
}

/**
 * What help is asked about, in whichever way; null = about nothing, or about what is not known. No
 * word at all asks about everything.
 */
export function helpTopic(
  commands: readonly Command[],
  argv: readonly string[],
): readonly string[] | null {
  const isAsking = argv.includes('--help') || argv.includes('-h')
  const [first, second] = argv.filter((word) => !word.startsWith('-'))
  if (first === undefined) {
    return isAsking || argv.every((flag) => flag === '--json') ? [] : null
  }
  if (!isAsking) return null
  if (commands.some(({ name }) => name === `${first} ${second}`)) return [first, second ?? '']
  const isKnown = commands.some(({ name }) => name.split(' ')[0] === first)
  return isKnown ? [first] : null
}

/** Commands of two words that begin with this one. */
export function verbsOf(commands: readonly Command[], noun: string): readonly Command[] {
  return commands.filter((known) => known.name.startsWith(`${noun} `))
}

function unknownCommand(
  commands: readonly Command[],
  first: string,
  second: string | undefined,
): CliError {
  const names = commands.map(({ name }) => name)
  const nouns = [...new Set(names.map((name) => name.split(' ')[0] ?? ''))]
  const whole = second === undefined ? null : nearest(`${first} ${second}`, names)
  const meant = whole ?? nearest(first, nouns)
  const fix = meant === null ? 'See `nozzle --help`.' : `Did you mean \`nozzle ${meant}\`?`
  return new CliError('usage', `unknown command "${first}"`, fix)
}
