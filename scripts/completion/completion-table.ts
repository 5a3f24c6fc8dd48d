/**
 * What a shell completes, from what the commands declare: words, flags, and what a value may be.
 * Pure; the three shells' scripts are written from this and nothing else.
 */
import type { FlagSpecs } from '../lib/argv.ts'
import type { Command } from '../lib/command.ts'
import { COMMON_FLAGS } from '../lib/help.ts'

/**
 * What may stand in a place: one of these words, a path, a model of the pool (which is asked), or
 * something that no shell can know.
 */
export type Value =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'file' | 'folder' | 'model' | 'unknown' }

export interface CompletedFlag {
  readonly name: string
  readonly short: string | null
  readonly help: string
  /** null = it takes none. */
  readonly value: Value | null
}

export interface CompletedCommand {
  readonly name: string
  readonly summary: string
  readonly positionals: readonly Value[]
  readonly flags: readonly CompletedFlag[]
}

export interface CompletedWord {
  readonly word: string
  readonly help: string
}

const WORDS = /^[a-z0-9-]+(\|[a-z0-9-]+)+$/
const FOLDERS = ['peft-dir', 'dir']
const FILES = ['path', 'file', 'from', 'to']

export function toCompletedCommand(command: Command): CompletedCommand {
  const { name, summary, positionals, flags } = command
  return {
    name,
    summary,
    positionals: positionals.map((positional) => toValue(positional.replace(/^[<[]|[>\]]$/g, ''))),
    flags: toCompletedFlags({ ...flags, ...COMMON_FLAGS }),
  }
}

/** First words of all commands, each once. */
export function firstWords(commands: readonly CompletedCommand[]): readonly CompletedWord[] {
  const words = new Map<string, string>()
  for (const { name, summary } of commands) {
    const [noun = '', verb] = name.split(' ')
    if (verb === undefined) words.set(noun, summary)
    else words.set(noun, [words.get(noun), verb].filter(Boolean).join(', '))
  }
  return [...words].map(([word, help]) => ({ word, help }))
}

/** Second words of the commands that have one, by the first. */
export function verbsByNoun(
  commands: readonly CompletedCommand[],
): ReadonlyMap<string, readonly CompletedWord[]> {
  const pairs = commands.map(({ name, summary }) => ({ words: name.split(' '), help: summary }))
  const withVerb = pairs.filter(({ words }) => words.length === 2)
  const grouped = Map.groupBy(withVerb, ({ words: [noun = ''] }) => noun)
  return new Map(
    [...grouped].map(([noun, members]) => [
      noun,
      members.map(({ words: [, word = ''], help }) => ({ word, help })),
    ]),
  )
}

/** Spellings of all flags that take a value: what follows one is no argument. */
export function flagsWithValue(commands: readonly CompletedCommand[]): readonly string[] {
  const flags = commands.flatMap(({ flags }) => flags).filter(({ value }) => value !== null)
  return [...new Set(flags.flatMap(spellings))]
}

export function spellings({ name, short }: CompletedFlag): readonly string[] {
  return short === null ? [`--${name}`] : [`--${name}`, `-${short}`]
}

function toCompletedFlags(flags: FlagSpecs): readonly CompletedFlag[] {
  return Object.entries(flags).map(([name, { type, short = null, value = '', help }]) => {
    return { name, short, help, value: type === 'string' ? toValue(value) : null }
  })
}

function toValue(shown: string): Value {
  if (WORDS.test(shown)) return { kind: 'words', words: shown.split('|') }
  if (shown === 'model') return { kind: 'model' }
  if (FOLDERS.includes(shown)) return { kind: 'folder' }
  return { kind: FILES.includes(shown) ? 'file' : 'unknown' }
}
