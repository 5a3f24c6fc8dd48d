/**
 * A release of the Worker: the real command, migrations, smoke test and edge, with a stand-in for
 * wrangler's account. That the Worker bundles is asked of the real wrangler.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { TestPool } from '../../edge/test/support/test-pool.ts'
import { runInEnv } from '../test/cli-run.ts'
import { FakeWrangler } from './test/fake-wrangler.ts'
import { WrittenRelease } from './test/written-release.ts'

const release = new WrittenRelease()
let pool: TestPool
let front: Server
let frontUrl = ''
let secrets: Record<string, string> = {}
/** What stands before the edge says on /healthz, when it shall fail. */
let healthStatus = 200
let wrangler: FakeWrangler

beforeAll(async () => {
  await release.write(['secrets'], { NOZZLE_DATABASE_URL: `pglite:${release.path('db')}` })
  secrets = release.environment('nozzle-edge.secrets.env')
  pool = await TestPool.start({ operatorKey: secrets.NOZZLE_OPERATOR_KEY ?? '' })
  front = createServer(async (request, response) => {
    const headers = { authorization: request.headers.authorization ?? '' }
    const reply = await fetch(pool.url + (request.url ?? ''), { headers })
    const isFaulty = request.url === '/healthz' && wrangler.version === 'v-new'
    response.setHeader('nozzle-worker-version', wrangler.version ?? '')
    response.writeHead(isFaulty ? healthStatus : reply.status)
    response.end(await reply.text())
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  const address = front.address()
  frontUrl = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
})
afterAll(async () => {
  front.close()
  await pool.stop()
  release.remove()
})
beforeEach(() => {
  healthStatus = 200
  wrangler = new FakeWrangler()
})
afterEach(() => wrangler.remove())

function run(...flags: readonly string[]) {
  const path = `${wrangler.folder}${delimiter}${process.env.PATH}`
  const argv = [
    ...['release', 'edge', '--base-model-name', 'fake-base', '--public-url', frontUrl],
    ...['--secrets', release.path('nozzle-edge.secrets.env'), '--smoke-s', '1', ...flags],
  ]
  return runInEnv(argv, { PATH: path, NOZZLE_API_KEY: 'not for wrangler' })
}

const verbs = () => wrangler.calls().map(({ argv }) => argv[0])

describe('nozzle release edge', () => {
  it('migrates, deploys code and secrets as one version, and tries it', async () => {
    wrangler.version = 'v-old'
    const done = await run('--json')
    expect(done.exitCode, done.stderr).toBe(0)
    expect(JSON.parse(done.stdout)).toEqual({
      ...{ version_id: 'v-new', url: frontUrl, previous_version_id: 'v-old' },
    })
    expect(verbs()).toEqual(['deployments', 'deploy'])
    const deploy = wrangler.calls()[1]
    expect(deploy).toMatchObject({ secrets, mode: '600', variables: [] })
    expect(deploy?.argv).toContain('NOZZLE_BASE_MODEL_NAME:fake-base')
    const shown =
      JSON.stringify(wrangler.calls().map(({ argv }) => argv)) + done.stdout + done.stderr
    for (const value of Object.values(secrets)) expect(shown).not.toContain(value)
  })

  it('goes back to the version that served most when the new one fails', async () => {
    wrangler.version = 'v-old'
    healthStatus = 500
    const failed = await run()
    expect(failed).toMatchObject({ exitCode: 6, stdout: '' })
    expect(failed.stderr).toContain('/healthz answers 500')
    expect(verbs()).toEqual(['deployments', 'deploy', 'rollback'])
    expect(wrangler.version).toBe('v-old')
  })

  it('leaves a first release that fails, and says so', async () => {
    healthStatus = 503
    const failed = await run()
    expect(failed.exitCode).toBe(6)
    expect(failed.stderr).toContain('It is the first and stays up')
    expect(verbs()).toEqual(['deployments', 'deploy'])
  })

  it('changes nothing when wrangler refuses, or nobody is logged in', async () => {
    wrangler.version = 'v-old'
    wrangler.fails('refuses')
    const refused = await run()
    expect(refused).toMatchObject({ exitCode: 6 })
    expect(refused.stderr).toContain('exceeded the size limit')
    wrangler.fails('logged-out')
    expect((await run()).stderr).toContain('wrangler login')
    expect([verbs(), wrangler.version]).toEqual([['deployments', 'deploy', 'deployments'], 'v-old'])
  })

  it('prints its plan with --dry-run, and starts nothing', async () => {
    const planned = await run('--dry-run', '--json')
    const plan: { steps: { step: string }[] } = JSON.parse(planned.stdout)
    expect(plan.steps.map(({ step }) => step)).toEqual([
      ...['status', 'migrate', 'deploy', 'smoke', 'on failure'],
    ])
    for (const value of Object.values(secrets)) expect(planned.stdout).not.toContain(value)
    expect(wrangler.calls()).toEqual([])
  })

  it('names a secret that is missing', async () => {
    const failed = await run('--secrets', release.path('nozzle-host.secrets.env'))
    expect(failed.exitCode).toBe(2)
    expect(failed.stderr).toContain('NOZZLE_KEY_PEPPER, NOZZLE_OPERATOR_KEY')
  })
})

it('the Worker bundles, as the real wrangler would send it, within the least plan', () => {
  const out = mkdtempSync(join(tmpdir(), 'nozzle-bundle-'))
  const argv = ['deploy', '--dry-run', '--config', 'edge/wrangler.jsonc', '--outdir', out]
  const { status, stdout, stderr } = spawnSync('node_modules/.bin/wrangler', argv, {
    encoding: 'utf8',
    env: { ...process.env, WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: out, CI: '1' },
  })
  rmSync(out, { recursive: true, force: true })
  expect(status, stderr).toBe(0)
  const kib = Number(/gzip: ([\d.]+) KiB/.exec(stdout)?.[1])
  expect(kib).toBeGreaterThan(50)
  expect(kib).toBeLessThan(3 * 1024)
})
