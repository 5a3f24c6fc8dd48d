/**
 * What the generated files say is really run: PostgreSQL, the migrations, an edge from its unit, a
 * host from its unit and one from its image's command, on the native engine with a tiny model.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { PoolClient } from '../../edge/test/support/pool-client.ts'
import { until } from '../../edge/test/support/test-pool.ts'
import { TINY, writeSyntheticGguf } from '../../native/test/support/synthetic-gguf.ts'
import { runInEnv } from '../test/cli-run.ts'
import { WrittenRelease } from './test/written-release.ts'

const root = process.cwd()
const release = new WrittenRelease()
const children: ChildProcess[] = []
let server: PostgresServer
let databaseUrl: string

beforeAll(async () => {
  server = await startPostgres(findPostgres() ?? '')
  databaseUrl = server.url
  writeSyntheticGguf(release.path('tiny.gguf'), TINY)
})
afterAll(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await server.stop()
  release.remove()
})

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

function start([command = '', ...args]: readonly string[], env: Record<string, string>) {
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] })
  children.push(child)
  return { child, log: text(child.stderr) }
}

it('a pool runs by its generated files, serves, and stops as its units stop it', async () => {
  const [edgePort, hostPort, otherPort] = [await freePort(), await freePort(), await freePort()]
  const edgeUrl = `http://127.0.0.1:${edgePort}`
  const common = ['--base-model-name', 'tiny', '--root', root]
  await release.write(['secrets'], { NOZZLE_DATABASE_URL: databaseUrl.replaceAll("'", '') })
  await release.write([...['edge', '--target', 'systemd', '--port', String(edgePort), ...common]])
  await release.write([
    ...['host', '--target', 'systemd', '--port', String(hostPort), '--edge-url', edgeUrl],
    ...['--url', `http://127.0.0.1:${hostPort}`, '--model', release.path('tiny.gguf')],
    ...['--store', release.path('store'), '--device', 'cpu', '--slots', '2', '--sequences', '2'],
    ...common,
  ])

  const migrated = await runInEnv(['release', 'migrate'], { NOZZLE_DATABASE_URL: databaseUrl })
  expect(migrated).toMatchObject({ exitCode: 0, stdout: 'the database is up to date\n' })

  const edge = release.unit('nozzle-edge.service')
  const edgeRun = start(edge.command, edge.env)
  const operatorKey = edge.env.NOZZLE_OPERATOR_KEY ?? ''
  const client = new PoolClient(edgeUrl, operatorKey)
  const host = release.unit('nozzle-host.service')
  // The state directory, which systemd makes and this test has no right to.
  const stateOf = (name: string) => ({ NOZZLE_DATA_DIR: release.path(name) })
  const small = { NOZZLE_CONTEXT_LENGTH: '128', NOZZLE_THREADS: '1' }
  const hostRun = start(host.command, { ...host.env, ...small, ...stateOf('state-1') })

  const image = new WrittenRelease()
  await image.write(['host', '--target', 'docker', '--device', 'cpu', '--base-model-name', 'tiny'])
  const containerEnv = {
    ...image.environment('nozzle-host.env'),
    ...release.environment('nozzle-host.secrets.env'),
    ...small,
    ...stateOf('state-2'),
    // What the network of compose would make of `host` and `edge`, and its volumes of paths.
    NOZZLE_HOST_URL: `http://127.0.0.1:${otherPort}`,
    NOZZLE_HOST_PORT: String(otherPort),
    NOZZLE_EDGE_URL: edgeUrl,
    NOZZLE_STORE: release.path('store'),
    NOZZLE_BASE_MODEL_PATH: release.path('tiny.gguf'),
  }
  const [node = '', ...entry] = image.imageCommand('Dockerfile.host')
  image.remove()
  const containerRun = start([join(root, node), ...entry], containerEnv)

  await until(async () => {
    const health = await client.call('GET', '/healthz', '')
    expect(await health.json()).toMatchObject({ status: 'ok', hosts_ready: 2 })
  })
  const tenant = await client.addTenant()
  const reply = await client.sdk(tenant.key).completions.create({
    ...{ model: 'tiny', prompt: 'hello', max_tokens: 5, temperature: 0 },
  })
  expect(reply.usage?.completion_tokens).toBeGreaterThan(0)

  for (const { child, log } of [hostRun, containerRun, edgeRun]) {
    child.kill('SIGTERM')
    await once(child, 'exit')
    expect([child.exitCode, await log]).toEqual([0, expect.stringContaining('"')])
  }
}, 90_000)
