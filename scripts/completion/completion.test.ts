/** The scripts in the shells themselves; zsh and fish where they are installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { COMMANDS } from '../cli.ts'
import { COMMON_FLAGS } from '../lib/help.ts'
import { runInEnv } from '../test/cli-run.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

const TABLE = 'NAME     VERSION\\nsql      2\\nsummary  1\\ntriage   3\\n'

let directory = ''
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-completion-'))
  mkdirSync(join(directory, 'adapter-one'))
  writeFileSync(join(directory, 'adapter-note.txt'), '')
  // What completion asks for models.
  const command = join(directory, 'nozzle')
  writeFileSync(command, `#!/bin/sh\n[ "$*" = 'model ls --no-input' ] && printf '${TABLE}'\n`)
  chmodSync(command, 0o755)
  for (const shell of SHELLS) {
    const { exitCode, stdout } = await runInEnv(['completion', shell], {})
    expect(exitCode).toBe(0)
    writeFileSync(join(directory, `nozzle.${shell}`), stdout)
  }
  return () => rmSync(directory, { recursive: true, force: true })
})

/** What the shell offers for the last word of each line, lines in order. */
const complete: Readonly<Record<Shell, (lines: readonly string[]) => string[][]>> = {
  bash(lines) {
    const calls = lines.map((line) => {
      // bash takes words apart at =, too.
      const words = line.split(/(?<==)|(?==)| /).map((word) => `'${word}'`)
      return `COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _nozzle; echo "\${COMPREPLY[*]}"`
    })
    return run('bash', ['--norc', '-c', ['source nozzle.bash', ...calls].join('\n')])
  },
  zsh(lines) {
    writeFileSync(join(directory, 'drive.zsh'), ZSH_DRIVER)
    return run('zsh', ['-f', 'drive.zsh', ...lines])
  },
  fish(lines) {
    const calls = lines.map(
      (line) => `echo (complete -C '${line}' | string replace -r '/?(\\t.*)?$' '')`,
    )
    return run('fish', ['--no-config', '-c', ['source nozzle.fish', ...calls].join('\n')])
  },
}

/** Types each line into a zsh with a terminal; what completion would add goes to a file. */
const ZSH_DRIVER = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; autoload -U compinit; compinit -D -u; source ./nozzle.zsh'
zpty -w z 'compadd() {
  local -a hits; builtin compadd -O hits "$@"; found+=($hits); builtin compadd "$@"
}'
zpty -w z 'offer() {
  found=(); _main_complete; compstate[insert]=; compstate[list]=
  print -r -- "$found" >> offered.txt
}'
zpty -w z 'zle -C offer complete-word offer; bindkey "^I" offer; print rea""dy'
zpty -r z answer '*ready*'
for line in "$@"; do zpty -n -w z "$line"$'\\t\\x15'; done
zpty -n -w z $'print don""e\\n'
zpty -r z answer '*done*'
zpty -d z
cat offered.txt
`

function run(shell: Shell, args: readonly string[]): string[][] {
  const env = { PATH: `${directory}:${process.env.PATH}`, HOME: directory, TERM: 'dumb' }
  const options = { cwd: directory, env, timeout: 20_000 }
  const text = execFileSync(shell, args, { ...options, encoding: 'utf8' })
  const lines = text.split('\n').slice(0, -1)
  // zsh adds some in two groups, fish marks folders.
  return lines.map((line) => [...new Set(line.split(/\/?\s+/).filter(Boolean))].sort())
}

const isInstalled = (shell: Shell): boolean => spawnSync(shell, ['-c', 'true']).status === 0

const CASES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['nozzle ten', ['tenant']],
  ['nozzle tenant ', ['create', 'ls', 'set', 'show']],
  ['nozzle key revoke --dr', ['--dry-run']],
  ['nozzle up --device ', ['auto', 'cpu', 'cuda']],
  ['nozzle usage --tenant acme --by v', ['version']],
  ['nozzle completion ', ['bash', 'fish', 'zsh']],
  ['nozzle deploy adapter-o', ['adapter-one']],
  ['nozzle help ex', ['exit-codes']],
  ['nozzle chat s', ['sql', 'summary']],
  ['nozzle model rollback ', ['sql', 'summary', 'triage']],
]

describe.each(SHELLS)('nozzle completion %s', (shell) => {
  // bash is everywhere that the tests run.
  it.skipIf(shell !== 'bash' && !isInstalled(shell))('offers what fits the place', () => {
    const offered = complete[shell](CASES.map(([line]) => line))
    expect(offered).toEqual(CASES.map(([, expected]) => expected))
  })
})

describe('nozzle completion bash', () => {
  it('knows --flag=value, folders, files, and every command with its flags', () => {
    const more = ['nozzle up --device=cu', 'nozzle deploy adap', 'nozzle host add --write-env adap']
    const commands = COMMANDS.map(({ name }) => `nozzle ${name} -`)
    const [equals, folders, files, ...flags] = complete.bash([...more, ...commands])
    expect(equals).toEqual(['cuda'])
    expect(folders).toEqual(['adapter-one'])
    expect(files).toEqual(['adapter-note.txt', 'adapter-one'])
    const declared = COMMANDS.map((command) => [
      ...new Set(
        Object.entries({ ...command.flags, ...COMMON_FLAGS }).flatMap(([name, { short }]) =>
          short ? [`--${name}`, `-${short}`] : [`--${name}`],
        ),
      ),
    ])
    expect(flags).toEqual(declared.map((names) => names.sort()))
  })
})

it('says which shells it knows', async () => {
  const { exitCode, stderr } = await runInEnv(['completion', 'tcsh'], {})
  expect(exitCode).toBe(2)
  expect(stderr).toContain('One of bash, zsh, fish.')
})
