/**
 * Checks commands that are shown and not run: that `nozzle` has the command and its flags, npm the
 * script, the benchmark its name, a file its place. By the code itself wherever it can be asked.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { COMMANDS } from '../../scripts/cli.ts'
import { parseArguments } from '../../scripts/lib/argv.ts'
import { findCommand, verbsOf } from '../../scripts/lib/find-command.ts'
import { COMMON_FLAGS } from '../../scripts/lib/help.ts'
import { PROJECT_ROOT } from './nozzle.ts'

/** Not ours: that they are there is the reader's affair. */
const OTHER_PROGRAMS = [
  ...['alias', 'cd', 'cp', 'export', 'mkdir', 'tail', 'head', 'ls', 'tar', 'tc', 'unshare', 'grep'],
  ...['cmake', 'curl', 'docker', 'git', 'kubectl', 'systemctl', 'systemd-analyze', 'npx', 'vllm'],
  ...['gguf/bin/pip', 'gguf/bin/gguf-dump', 'gguf/bin/gguf-new-metadata', 'convert/bin/pip'],
  ...['convert/bin/python', 'llama.cpp/build/bin/llama-quantize', 'venv/bin/pip', 'ninja'],
]
/** Where the flags of `npm run soak` and `npm run mutants` are declared. */
const FLAG_SOURCES: Readonly<Record<string, readonly string[]>> = {
  soak: ['scripts/task.ts', 'scripts/soak.ts', 'scripts/soak/*.ts', 'bench/cli.ts'],
  mutants: ['scripts/mutants/run-mutants.ts'],
}

const packageFile = z.object({ scripts: z.record(z.string(), z.string()) })

/** What is wrong with each command of the block, in words; empty = nothing. */
export function checkCommands(source: string): string[] {
  return splitCommands(source).flatMap((words) => {
    const fault = checkCommand(words)
    return fault === null ? [] : [`\`${words.join(' ')}\`: ${fault}`]
  })
}

/** Of a command within a sentence: arguments may be missing, words and flags may not be wrong. */
export function checkSpan(source: string): string | null {
  const words = splitCommands(source.replace(/^npm run --silent nozzle -- /, 'nozzle '))[0] ?? []
  const [, first = '', ...rest] = words
  if (first === '' || /[|<…[]/.test(source.split(' --')[0] ?? '')) return null
  if (rest.length === 0 && verbsOf(COMMANDS, first).length > 0) return null
  return failureOf(() => {
    const { command, rest: given } = findCommand(COMMANDS, words.slice(1))
    const flags = { ...command.flags, ...COMMON_FLAGS }
    for (const word of given) {
      const [, name] = /^--([a-z][a-z-]*)/.exec(word) ?? []
      if (name !== undefined && !Object.hasOwn(flags, name)) throw new Error(`has no --${name}`)
    }
  })
}

function checkCommand(words: readonly string[]): string | null {
  const begin = words.findIndex((word) => !isAssignment(word))
  const [program = '', ...args] = begin < 0 ? [] : words.slice(begin)
  if (program === '' || OTHER_PROGRAMS.includes(program)) return null
  if (program === 'nozzle') return checkNozzle(args)
  if (program === 'npm') return checkNpm(args)
  if (program === 'vitest') return checkTests(args)
  if (/(^|\/)python3?$/.test(program)) return checkScript(args)
  if (program.includes('/') && existsSync(join(PROJECT_ROOT, program))) return null
  return `"${program}" is no program that test/support/doc-commands.ts knows`
}

function checkNozzle(args: readonly string[]): string | null {
  return failureOf(() => {
    const { command, rest } = findCommand(COMMANDS, args)
    parseArguments(rest, { ...command.flags, ...COMMON_FLAGS }, command.positionals)
  })
}

function checkNpm(args: readonly string[]): string | null {
  const [verb = '', ...more] = args.filter((word) => word !== '--silent')
  const name = verb === 'run' ? (more[0] ?? '') : verb
  const { scripts } = packageFile.parse(
    JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')),
  )
  if (!Object.hasOwn(scripts, name)) return `package.json has no script "${name}"`
  const at = more.indexOf('--')
  const rest = at < 0 ? [] : more.slice(at + 1)
  if (name === 'nozzle') return checkNozzle(rest)
  if (name === 'test') return checkTests(rest)
  if (name === 'bench') return checkBench(rest)
  const sources = FLAG_SOURCES[name]
  if (sources === undefined) return null
  const text = sources.map(readAll).join('\n')
  const unknown = flagsOf(rest).find((flag) => !new RegExp(`\\b${flag}\\b\\W`).test(text))
  return unknown === undefined ? null : `\`npm run ${name}\` has no --${unknown}`
}

/** What `bench --help` says: its names and flags. Asked once. */
let benchUsage: string | null = null

function checkBench(args: readonly string[]): string | null {
  const entry = join(PROJECT_ROOT, 'bench', 'cli.ts')
  benchUsage ??= execFileSync(process.execPath, [entry, '--help'], { encoding: 'utf8' })
  const usage = benchUsage
  const [name = ''] = args
  if (!new RegExp(`^  ${name} `, 'm').test(usage)) return `there is no benchmark "${name}"`
  const unknown = flagsOf(args).find((flag) => !new RegExp(`--${flag}\\b`).test(usage))
  return unknown === undefined ? null : `bench has no --${unknown}`
}

function checkTests(args: readonly string[]): string | null {
  const lost = args
    .filter((word, at) => !word.startsWith('-') && !/^-(-project|t)$/.test(args[at - 1] ?? ''))
    .filter((word) => word !== 'run')
    .find((place) => globSync(`${place}*`, { cwd: PROJECT_ROOT }).length === 0)
  return lost === undefined ? null : `no test begins with ${lost}`
}

/** A script of ours: it is there, and declares the flags. */
function checkScript(args: readonly string[]): string | null {
  const [first = ''] = args
  if (!first.endsWith('.py')) return null
  if (!existsSync(join(PROJECT_ROOT, first))) return `there is no ${first}`
  const text = readAll(first)
  const unknown = flagsOf(args).find((flag) => !text.includes(`"--${flag}"`))
  return unknown === undefined ? null : `${first} has no --${unknown}`
}

function flagsOf(args: readonly string[]): string[] {
  return args.flatMap((word) => /^--([a-z][a-z-]*)/.exec(word)?.[1] ?? [])
}

function readAll(pattern: string): string {
  return globSync(pattern, { cwd: PROJECT_ROOT })
    .map((path) => readFileSync(join(PROJECT_ROOT, path), 'utf8'))
    .join('\n')
}

function failureOf(run: () => void): string | null {
  try {
    run()
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function isAssignment(word: string): boolean {
  return /^[A-Za-z_][A-Za-z_0-9]*=/.test(word)
}

/** Simple commands as words: what a reader types, without redirections. No shell is needed here. */
export function splitCommands(source: string): string[][] {
  const joined = source.replaceAll(/\\\n\s*/g, ' ')
  const commands: string[][] = []
  for (const line of joined.split('\n')) {
    let words: string[] = []
    for (const [, quoted, double, operator, plain] of line.matchAll(
      /'([^']*)'|"([^"]*)"|(&&|\|\||[;|]|[<>]+\s*\S+)|((?:[^\s'"&|;<>]|'[^']*'|"[^"]*")+)/g,
    )) {
      if (plain?.startsWith('#')) break
      if (operator !== undefined) {
        if (!/^[<>]/.test(operator)) {
          commands.push(words)
          words = []
        }
        continue
      }
      words.push((plain ?? quoted ?? double ?? '').replaceAll(/['"]/g, ''))
    }
    commands.push(words)
  }
  return commands.filter(({ length }) => length > 0)
}
