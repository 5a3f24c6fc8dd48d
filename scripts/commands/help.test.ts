/** Help, exit codes and what comes of words that do not exist. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { COMMANDS, runCli } from '../cli.ts'
import { EXIT_CODES, EXIT_MEANINGS } from '../lib/cli-error.ts'
import { runInEnv } from '../test/cli-run.ts'

const nozzle = (line: string) => runInEnv(line.split(' ').filter(Boolean), {})

describe('nozzle help', () => {
  it('says the same however it is asked', async () => {
    const [overview, flag, none] = await Promise.all(['help', '--help', ''].map(nozzle))
    expect(flag).toEqual(overview)
    expect(none).toEqual(overview)
    const [topic, command] = await Promise.all(['help model rm', 'model rm x -h'].map(nozzle))
    expect(command).toEqual(topic)
    expect(topic?.stdout).toContain('nozzle model rm <model> [flags]')
  })

  it('shows all commands of a noun', async () => {
    const { stdout } = await nozzle('help key')
    for (const verb of ['create', 'ls', 'revoke']) expect(stdout).toContain(`nozzle key ${verb}`)
  })

  it('is data for tools, too', async () => {
    const { commands } = JSON.parse((await nozzle('help --json')).stdout)
    expect(commands.map(({ name }: { name: string }) => name)).toEqual(
      COMMANDS.map(({ name }) => name),
    )
  })

  it('names in the environment topic each variable that says which edge', async () => {
    const { stdout } = await nozzle('help environment')
    for (const name of ['EDGE_URL', 'API_KEY', 'TENANT', 'PROFILE', 'DATA_DIR', 'CONFIG']) {
      expect(stdout).toContain(`NOZZLE_${name}`)
    }
  })

  it('gives every command an example of itself', () => {
    const silent = COMMANDS.filter(({ name, examples }) => {
      return !examples.some((example) => example.includes(`nozzle ${name}`))
    })
    expect(silent.map(({ name }) => name)).toEqual([])
  })
})

describe('exit codes', () => {
  const rows = Object.entries(EXIT_CODES).map(([reason, code]) => ({
    code: String(code),
    meaning: new Map<string, string>(Object.entries(EXIT_MEANINGS)).get(reason),
  }))

  it('are in `nozzle help exit-codes`, as they are', async () => {
    const { stdout } = await nozzle('help exit-codes')
    for (const { code, meaning } of rows) expect(stdout).toContain(`${code}  ${meaning}`)
  })

  it('are in the README, as they are', () => {
    const readme = readFileSync(join(import.meta.dirname, '..', 'README.md'), 'utf8')
    const [, table = ''] =
      /\| Exit code \| Meaning[^\n]*\n[^\n]*\n((?:\|[^\n]*\n)+)/.exec(readme) ?? []
    const written = table
      .trimEnd()
      .split('\n')
      .map((line) => line.split('|').map((cell) => cell.trim()))
      .map(([, code, meaning]) => ({ code, meaning }))
    expect(written).toEqual([{ code: '0', meaning: 'done' }, ...rows])
  })

  it('say 130 where it was interrupted', async () => {
    const written = { stderr: '' }
    const stopped = AbortSignal.abort()
    const exitCode = await runCli(['tenant', 'ls', '--json'], {
      env: { NOZZLE_EDGE_URL: 'http://127.0.0.1:1', NOZZLE_API_KEY: 'k' },
      projectRoot: process.cwd(),
      stdout: { write: () => {} },
      stderr: { write: (piece) => (written.stderr += piece) },
      signal: stopped,
      hurry: stopped,
      readStdin: null,
    })
    expect(exitCode).toBe(EXIT_CODES.interrupted)
    expect(JSON.parse(written.stderr).error).toMatchObject({ code: 'interrupted', exit_code: 130 })
  })
})

describe('what does not exist', () => {
  it.each([
    ['depoly ./a', 'unknown command "depoly"', 'Did you mean `nozzle deploy`?'],
    ['tenat ls', 'unknown command "tenat"', 'Did you mean `nozzle tenant ls`?'],
    ['model delete m', 'unknown command "model delete"', 'Did you mean `nozzle model rm`?'],
    ['key list', 'unknown command "key list"', 'Did you mean `nozzle key ls`?'],
    ['tenant ls --edgeurl x', 'unknown flag --edgeurl; did you mean --edge-url?', '--help'],
    ['help depoly', 'there is no help on "depoly"', 'Did you mean `nozzle help deploy`?'],
    ['help exitcodes', 'there is no help on "exitcodes"', '`nozzle help exit-codes`'],
    ['--profile x tenant ls', '--profile comes before a command', 'Flags follow the command.'],
  ])('is told by what is near: %s', async (line, message, fix) => {
    const { exitCode, stdout, stderr } = await nozzle(line)
    expect({ exitCode, stdout }).toEqual({ exitCode: EXIT_CODES.usage, stdout: '' })
    expect(stderr).toContain(`error: ${message}\n`)
    expect(stderr).toContain(fix)
  })
})

it('says its version', async () => {
  const { version } = JSON.parse(readFileSync(join(process.cwd(), 'package.json'), 'utf8'))
  expect((await nozzle('--version')).stdout).toBe(`nozzle ${version}\n`)
})
