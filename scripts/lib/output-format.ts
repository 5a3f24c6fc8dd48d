/** The flag `--format` of commands whose data has more forms than a table and JSON. */
import type { FlagSpec } from './argv.ts'
import { CliError } from './cli-error.ts'
import type { CommandCall } from './command.ts'

/** The first of the formats is the one without the flag. */
export function formatFlag(formats: readonly string[]): FlagSpec {
  return { type: 'string', value: 'name', help: `${formats.join(', ')} (default: ${formats[0]})` }
}

/** Throws a `usage` error for a format that is not there, or that `--json` contradicts. */
export function readFormat<T extends string>(
  call: CommandCall,
  formats: readonly [T, ...(readonly T[])],
): T {
  const [first] = formats
  const wanted = call.flags.text('format') ?? (call.output.isJson ? 'json' : first)
  const format = formats.find((known) => known === wanted)
  if (format === undefined) {
    throw new CliError('usage', `--format must be one of ${formats.join(', ')}, not "${wanted}"`)
  }
  if (call.output.isJson && format !== 'json') {
    throw new CliError('usage', `--json and --format ${format} exclude each other`)
  }
  return format
}
