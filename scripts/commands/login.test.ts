/** Profiles against a real edge: what is kept, who reads it, and what comes before what. */
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createApiKey } from '../../edge/auth/api-key.ts'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { TestPool } from '../../edge/test/support/test-pool.ts'
import { runCli } from '../cli.ts'
import type { Question } from '../lib/terminal-question.ts'
import { runInEnv } from '../test/cli-run.ts'

let pool: TestPool
let acme: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  acme = await pool.addTenant()
  return () => pool.stop()
})

let home = ''
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'nozzle-login-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const file = () => join(home, '.config', 'nozzle', 'config.json')
const nozzle = (line: string, env: NodeJS.ProcessEnv = {}) =>
  runInEnv(line.split(' ').filter(Boolean), { HOME: home, ...env }, home)
const logIn = (profile: string, { url, key }: { url: string; key: string }) =>
  nozzle(`login --profile ${profile} --edge-url ${url}`, { NOZZLE_API_KEY: key })
const whoami = async (line = '', env: NodeJS.ProcessEnv = {}) =>
  JSON.parse((await nozzle(`whoami --json ${line}`, env)).stdout)

describe('nozzle login', () => {
  it('keeps edge and key for its owner alone, and never prints the key', async () => {
    const { exitCode, stdout, stderr } = await logIn('acme', { url: pool.url, key: acme.key })
    expect(exitCode).toBe(0)
    expect(stdout).toBe(`logged in: acme, ${pool.url} as tenant ${acme.name}\n`)
    expect(statSync(file()).mode & 0o777).toBe(0o600)
    expect(statSync(join(home, '.config', 'nozzle')).mode & 0o077).toBe(0)
    const list = await nozzle('profile ls')
    expect(list.stdout).toContain(`*  acme  ${pool.url}`)
    expect([stdout, stderr, list.stdout].join('')).not.toContain(acme.key)
    expect(await whoami()).toMatchObject({ profile: 'acme', tenant: { name: acme.name } })
  })

  it('keeps nothing of a key that the edge does not know', async () => {
    const refused = await logIn('acme', { url: pool.url, key: await createApiKey() })
    expect(refused.exitCode).toBe(5)
    expect(() => statSync(file())).toThrow('ENOENT')
    const line = `login --edge-url ${pool.url} --tenant nobody`
    expect(await nozzle(line, { NOZZLE_API_KEY: acme.key })).toMatchObject({ exitCode: 4 })
    const dry = await nozzle(`login --edge-url ${pool.url} --dry-run`, { NOZZLE_API_KEY: acme.key })
    expect(dry).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('would keep') })
    expect(() => statSync(file())).toThrow('ENOENT')
  })

  it('asks at a terminal, the key unseen; with --no-input it says what is missing', async () => {
    const asked: Question[] = []
    const answers = [pool.url, acme.key]
    const idle = new AbortController().signal
    const run = async (...argv: string[]) => {
      let stderr = ''
      const exitCode = await runCli(argv, {
        env: { HOME: home },
        projectRoot: home,
        stdout: { write: () => {} },
        stderr: { write: (piece) => (stderr += piece) },
        signal: idle,
        hurry: idle,
        readStdin: async () => '',
        ask: async (question) => {
          asked.push(question)
          return answers.shift() ?? ''
        },
      })
      return { exitCode, stderr }
    }
    const unasked = await run('login', '--no-input')
    expect(unasked).toMatchObject({ exitCode: 2 })
    expect(unasked.stderr).toContain('--edge-url is needed')
    const keyless = await run('login', '--no-input', '--edge-url', pool.url)
    expect(keyless.stderr).toContain('NOZZLE_API_KEY')
    expect(asked).toEqual([])
    expect((await run('login')).exitCode).toBe(0)
    expect(asked.map(({ isHidden = false }) => isHidden)).toEqual([false, true])
    expect(readFileSync(file(), 'utf8')).toContain(acme.key)
  })

  it.each(['here', '../x', ''])('refuses %j as a name', async (name) => {
    const { exitCode } = await nozzle(`login --profile=${name} --edge-url=x --api-key=k`)
    expect(exitCode).toBe(2)
  })
})

describe('a profile', () => {
  it('comes after flags and environment, and before the pool here', async () => {
    await logIn('operator', { url: pool.url, key: pool.operatorKey })
    await logIn('acme', { url: pool.url, key: acme.key })
    expect(await whoami()).toMatchObject({ profile: 'acme', key_id: acme.keyId })
    expect(await whoami('--profile operator')).toMatchObject({ key_id: null })
    expect(await whoami('', { NOZZLE_PROFILE: 'operator' })).toMatchObject({ key_id: null })
    expect(await whoami('--profile acme', { NOZZLE_PROFILE: 'operator' })).toMatchObject({
      key_id: acme.keyId,
    })
    const key = { NOZZLE_API_KEY: pool.operatorKey }
    expect(await whoami('', key)).toMatchObject({ profile: 'acme', key_id: null })
    // A data directory that is named is the pool that is meant.
    const here = await nozzle('tenant ls', { NOZZLE_DATA_DIR: home })
    expect(here).toMatchObject({ exitCode: 6, stderr: expect.stringContaining('no pool runs') })
    await nozzle('profile use operator')
    expect(await whoami()).toMatchObject({ profile: 'operator' })
    await nozzle('profile use here')
    expect((await nozzle('tenant ls', { NOZZLE_DATA_DIR: '' })).stderr).not.toContain('operator')
  })

  it('gives its key to its own edge and to no other', async () => {
    await logIn('acme', { url: pool.url, key: acme.key })
    const seen: string[] = []
    const other = createServer((request, response) => {
      seen.push(request.headers.authorization ?? 'none')
      response.end('{"data":[]}')
    }).listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    const elsewhere = await nozzle(`tenant ls --edge-url ${url}`)
    expect(elsewhere).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('no API key') })
    const asked = await nozzle(`whoami --profile acme --edge-url ${url}`)
    expect(asked).toMatchObject({ exitCode: 2, stdout: '' })
    expect(asked.stderr).toContain(`profile acme is for ${pool.url}, not for ${url}`)
    expect(seen).toEqual([])
  })

  it('is forgotten by logout, and named where it is not there', async () => {
    await logIn('acme', { url: pool.url, key: acme.key })
    expect(await nozzle('logout')).toMatchObject({ exitCode: 0, stdout: 'forgot acme\n' })
    expect(readFileSync(file(), 'utf8')).not.toContain(acme.key)
    expect(await nozzle('logout')).toMatchObject({ exitCode: 3 })
    const missing = await nozzle('tenant ls --profile acme')
    expect(missing).toMatchObject({ exitCode: 3 })
    expect(missing.stderr).toContain('there is no profile "acme"')
  })

  it('of a damaged file is refused by its path', async () => {
    await logIn('acme', { url: pool.url, key: acme.key })
    chmodSync(file(), 0o600)
    writeFileSync(file(), '{"profiles": 1}')
    const { exitCode, stderr } = await nozzle('whoami')
    expect(exitCode).toBe(4)
    expect(stderr).toContain(`${file()} is damaged`)
  })
})
