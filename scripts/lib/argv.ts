/**
 * Arguments of one command, checked against what it declares: an unknown flag, a missing value or a
 * surplus argument is a `usage` error that names it.
 */
import { parseArgs } from 'node:util'
import { CliError } from './cli-error.ts'
import { nearest } from './nearest.ts'

export interface FlagSpec {
  readonly type: 'string' | 'boolean'
  /** One letter, for those that are known under it everywhere. */
  readonly short?: string
  /** May be given several times; read with `texts`. */
  readonly isMultiple?: boolean
  /** Stands for the value in help; `a|b` is one of these. */
  readonly value?: string
  readonly help: string
}
export type FlagSpecs = Readonly<Record<string, FlagSpec>>

/** Values of the flags that were given. */
export class Flags {
  readonly #values: Readonly<Record<string, unknown>>

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values
  }

  text(name: string): string | undefined {
    const value = this.#values[name]
    return typeof value === 'string' ? value : undefined
  }

  /** Of a flag that may be given several times, in order. */
  texts(name: string): readonly string[] {
    const value = this.#values[name]
    return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
  }

  isSet(name: string): boolean {
    return this.#values[name] === true
  }

  /** Throws a `usage` error when the flag is absent. */
  requiredText(name: string): string {
    const value = this.text(name)
    if (value) return value
    throw new CliError('usage', `--${name} is needed`)
  }

  /** Throws a `usage` error when the flag was given with an empty value. */
  filledText(name: string): string | undefined {
    const value = this.text(name)
    if (value !== '') return value
    throw new CliError('usage', `--${name} needs a value`)
  }

  /** Throws a `usage` error when the value is no number within the bounds. */
  number(name: string, min: number, max: number): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = text.trim() === '' ? Number.NaN : Number(text)
    if (value >= min && value <= max) return value
    throw new CliError('usage', `--${name} must be a number from ${min} to ${max}, not "${text}"`)
  }

  /** Throws a `usage` error when the value is no whole number within the bounds. */
  integer(name: string, min: number, max: number): number | undefined {
    const value = this.number(name, min, max)
    if (value === undefined || Number.isInteger(value)) return value
    throw new CliError('usage', `--${name} must be a whole number, not "${value}"`)
  }
}

export interface ParsedArguments {
  readonly flags: Flags
  readonly positionals: readonly string[]
}

/** @param positionals as a Command declares them. */
export function parseArguments(
  args: readonly string[],
  specs: FlagSpecs,
  positionals: readonly string[],
): ParsedArguments {
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { type, short, isMultiple = false }]) => {
      return [name, { type, multiple: isMultiple, ...(short && { short }) }] as const
    }),
  )
  let parsed: ReturnType<typeof parseArgs>
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (error) {
    throw new CliError('usage', toUsageMessage(error, Object.keys(specs)))
  }
  const given = parsed.positionals
  const missing = positionals.find((name, i) => name.startsWith('<') && !given[i])
  if (missing) throw new CliError('usage', `${missing} is needed`)
  const surplus = given[positionals.length]
  if (surplus !== undefined) {
    const taken = positionals.join(' ') || 'none'
    throw new CliError('usage', `unexpected argument "${surplus}"; arguments are: ${taken}`)
  }
  return { flags: new Flags(parsed.values), positionals: given }
}

/** parseArgs explains at length; its first sentence names the flag. */
function toUsageMessage(error: unknown, known: readonly string[]): string {
  if (!(error instanceof Error)) return String(error)
  const [, unknown] = /^Unknown option '(-[^']+)'/.exec(error.message) ?? []
  if (unknown !== undefined) {
    const meant = nearest(unknown.replace(/^-+/, ''), known)
    return `unknown flag ${unknown}${meant === null ? '' : `; did you mean --${meant}?`}`
  }
  const ambiguous = /^Option '(?:-\w, )?(--[^' ]+)[^']*' argument is ambiguous/.exec(error.message)
  if (ambiguous) {
    const [, flag] = ambiguous
    return `${flag} needs a value; one that begins with - is written ${flag}=-…`
  }
  const first = error.message.split('\n')[0] ?? error.message
  return first.replace(/^Option '([^']+)'/, '$1').replace(/\.$/, '')
}
