/** `nozzle logs` against a real edge with a real host, and on log files that grow. */
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { TestPool, until } from '../../edge/test/support/test-pool.ts'
import { runCli } from '../cli.ts'

/** A command that goes on until it is stopped. */
function start(argv: readonly string[], env: NodeJS.ProcessEnv) {
  const stop = new AbortController()
  const written = { stdout: '', stderr: '' }
  const ended = runCli(argv, {
    env,
    projectRoot: process.cwd(),
    stdout: { write: (piece) => (written.stdout += piece) },
    stderr: { write: (piece) => (written.stderr += piece) },
    signal: stop.signal,
    hurry: stop.signal,
    readStdin: null,
  })
  return { stop: () => stop.abort(), written, ended }
}

describe('nozzle logs', () => {
  let pool: TestPool
  let acme: TestTenant
  let other: TestTenant
  beforeAll(async () => {
    pool = await TestPool.start()
    await pool.addHost()
    acme = await pool.addTenant()
    other = await pool.addTenant()
    return () => pool.stop()
  })

  const ask = async (tenant: TestTenant, content: string): Promise<string> => {
    const messages = [{ role: 'user' as const, content }]
    const sdk = pool.sdk(tenant.key)
    const request = { model: 'fake-base', messages, max_tokens: 3 }
    return (await sdk.chat.completions.create(request)).id.replace('chatcmpl-', 'req_')
  }
  const envOf = ({ key }: TestTenant) => ({ NOZZLE_EDGE_URL: pool.url, NOZZLE_API_KEY: key })
  const listed = async (tenant: TestTenant, ...flags: string[]) => {
    const { ended, written } = start(['logs', '--json', ...flags], envOf(tenant))
    expect(await ended).toBe(0)
    return written.stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line))
  }

  it('lists the last requests, oldest first, of this tenant alone', async () => {
    for (const text of ['one', 'two', 'three']) await ask(acme, text)
    await ask(other, 'theirs')
    await until(async () => expect(await listed(acme)).toHaveLength(3))
    const all = await listed(acme)
    expect(all.map(({ ended_at }) => ended_at)).toEqual(all.map((row) => row.ended_at).sort())
    expect(await listed(acme, '-n', '2')).toEqual(all.slice(1))
    expect(await listed(acme, '--model', 'none')).toEqual([])
    expect(await listed(acme, '-n', '0')).toEqual([])
    const { ended, written } = start(['logs', '-n', '1'], envOf(acme))
    expect(await ended).toBe(0)
    const [at, id, model, end, tokens, first, whole, cost] = written.stdout.trimEnd().split('  ')
    expect([at, id]).toEqual([all.at(-1)?.ended_at, all.at(-1)?.request_id])
    expect([model, end]).toEqual(['fake-base', 'length'])
    expect(tokens).toMatch(/^\d+\+3 tok$/)
    expect([first, whole]).toEqual([
      expect.stringMatching(/^first \d+ ms$/),
      expect.stringMatching(/^all \d+ ms$/),
    ])
    expect(cost).toMatch(/^0\.\d+ USD$/)
  })

  it('follows: each request once, as it comes, until Ctrl-C', async () => {
    const before = await listed(acme)
    const { stop, written, ended } = start(['logs', '-f', '--json', '-n', '1'], envOf(acme))
    const lines = () =>
      written.stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line).request_id)
    await until(() => expect(lines()).toEqual([before.at(-1)?.request_id]))
    await ask(other, 'theirs')
    await ask(acme, 'four')
    await until(() => expect(lines()).toHaveLength(2))
    await ask(acme, 'five')
    await until(() => expect(lines()).toHaveLength(3))
    stop()
    expect(await ended).toBe(0)
    const after = await listed(acme, '-n', '3')
    expect(lines()).toEqual(after.map(({ request_id }) => request_id))
    expect(written.stderr).toBe('')
  })

  it('refuses flags that do not go together', async () => {
    expect(await start(['logs', '--of', 'edge'], envOf(acme)).ended).toBe(2)
    expect(await start(['logs', '--pool', '--model', 'm'], envOf(acme)).ended).toBe(2)
  })
})

describe('nozzle logs --pool', () => {
  const line = (at: string, message: string) =>
    `${JSON.stringify({ at: `2026-11-01T00:00:${at}Z`, level: 'info', message, port: 1 })}\n`

  function poolHere() {
    const directory = mkdtempSync(join(tmpdir(), 'nozzle-logs-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const logs = join(directory, 'logs')
    mkdirSync(logs)
    writeFileSync(join(logs, 'edge.log'), line('01', 'edge ready') + line('03', 'request'))
    writeFileSync(join(logs, 'host.log'), `${line('02', 'host ready')}Error: crash\n    at here\n`)
    return { logs, env: { NOZZLE_DATA_DIR: directory } }
  }

  it('shows the last lines of all logs in the order of their times, what is no record as it is', async () => {
    const { env, logs } = poolHere()
    const { ended, written } = start(['logs', '--pool'], env)
    expect(await ended).toBe(0)
    expect(written.stdout.split('\n')).toEqual([
      '2026-11-01T00:00:01Z  edge    info   edge ready  port=1',
      '2026-11-01T00:00:02Z  host    info   host ready  port=1',
      'host  Error: crash',
      'host      at here',
      '2026-11-01T00:00:03Z  edge    info   request  port=1',
      '',
    ])
    const beat = { at: '2026-11-01T00:00:04Z', level: 'info', message: 'request' }
    const taken = { ...beat, path: '/internal/v1/hosts/heartbeat', status: 200 }
    for (const line of [taken, { ...taken, status: 401 }]) {
      appendFileSync(join(logs, 'edge.log'), `${JSON.stringify(line)}\n`)
    }
    const statuses = async (...flags: string[]) => {
      const { ended, written } = start(['logs', '--pool', '--json', '-n', '2', ...flags], env)
      expect(await ended).toBe(0)
      const lines = written.stdout.trimEnd().split('\n')
      return lines.map((text) => JSON.parse(text).status)
    }
    expect(await statuses()).toEqual([undefined, 401])
    expect(await statuses('--all')).toEqual([200, 401])
    writeFileSync(join(logs, 'edge.log'), line('03', 'request').repeat(1000))
    const many = start(['logs', '--pool', '--of', 'edge', '-n', '900'], env)
    expect(await many.ended).toBe(0)
    expect(many.written.stdout.trimEnd().split('\n')).toHaveLength(900)
    const one = start(['logs', '--pool', '--of', 'edge', '-n', '1', '--json'], env)
    expect(await one.ended).toBe(0)
    expect(JSON.parse(one.written.stdout)).toMatchObject({ source: 'edge', message: 'request' })
    expect(await start(['logs', '--pool', '--of', 'host-9'], env).ended).toBe(3)
  })

  it('follows over a log that is moved aside, and of a host that comes later', async () => {
    const { env, logs } = poolHere()
    const { stop, written, ended } = start(['logs', '--pool', '-f', '-n', '0', '--json'], env)
    const messages = () =>
      written.stdout
        .split('\n')
        .slice(0, -1)
        .map((text) => JSON.parse(text))
        .map(({ source, message, text }) => `${source}: ${message ?? text}`)
    const path = join(logs, 'edge.log')
    const say = async (write: () => void, expected: string) => {
      write()
      await until(() => expect(messages().at(-1)).toBe(expected))
    }
    // The first look notes where the files end.
    await new Promise((resolve) => setTimeout(resolve, 300))
    await say(() => appendFileSync(path, line('04', 'whole')), 'edge: whole')
    appendFileSync(path, '{"at":"2026-11-01T00:00:05Z","level":"info",')
    await say(() => appendFileSync(path, '"message":"in two"}\n'), 'edge: in two')
    await say(() => {
      renameSync(path, `${path}.1`)
      writeFileSync(path, line('06', 'a new file'))
    }, 'edge: a new file')
    await say(() => writeFileSync(join(logs, 'host-2.log'), line('07', 'second')), 'host-2: second')
    expect(messages()).toHaveLength(4)
    stop()
    expect(await ended).toBe(0)
  })
})
