/** `nozzle deploy` where the pool's store takes files directly. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { TestTenant } from '../../edge/test/support/pool-client.ts'
import { until } from '../../edge/test/support/test-pool.ts'
import { SLOW_DOWN } from '../../gpu-host/adapters/test/support/s3-server.ts'
import { describeFile } from '../lib/file-parts.ts'
import { findPeftFiles } from '../lib/peft-directory.ts'
import { runAgainst } from '../test/cli-run.ts'
import { DirectPool } from '../test/direct-pool.ts'

let direct: DirectPool
let tenant: TestTenant
let seed = 0
beforeAll(async () => {
  direct = await DirectPool.start()
})
afterAll(() => direct.stop())
beforeEach(async () => {
  tenant = await direct.pool.addTenant()
  direct.server.fault = () => null
  direct.server.requests.splice(0)
  direct.server.objects.clear()
})

/** Of one part, or of three with all `layers`. */
function createAdapter(layers = 1, config?: Record<string, unknown>): string {
  seed += 1
  return direct.createAdapter(seed, layers, config)
}

const argvOf = (directory: string, owner: TestTenant) => [
  ...['deploy', directory, '--model', 'm', '--tenant', owner.name, '--json'],
]

async function deploy(directory: string, owner = tenant, flags: readonly string[] = []) {
  const run = await runAgainst(direct.pool, [...argvOf(directory, owner), ...flags], owner.key)
  const reply: { digest?: string; version?: number } =
    run.exitCode === 0 ? JSON.parse(run.stdout) : {}
  return { ...run, ...reply }
}

describe('nozzle deploy into a store', () => {
  it('sends the files past the edge, in parts, and leaves the pack alone', async () => {
    const directory = createAdapter(11)
    const deployed = await deploy(directory)
    expect(deployed).toMatchObject({ exitCode: 0, version: 1 })
    expect(direct.sentParts()).toHaveLength(1 + 3)
    expect([direct.keys('staging').length, direct.keys('packs').length]).toEqual([0, 1])
  })

  it('serves the adapter, the same as one that came through the edge', async () => {
    const directory = createAdapter()
    const deployed = await deploy(directory)
    const reply = await direct.pool.call('POST', `/${tenant.name}/m/v1/completions`, tenant.key, {
      model: 'm',
      prompt: 'hello',
      max_tokens: 2,
    })
    expect(await reply.text()).toContain('text_completion')
    const form = new FormData()
    for (const [name, file] of [
      ['config', 'adapter_config.json'],
      ['weights', 'adapter_model.safetensors'],
    ] as const) {
      form.append(name, new Blob([readFileSync(join(directory, file))]), file)
    }
    const url = `${direct.pool.url}/v1/tenants/${tenant.name}/models/m/versions`
    const headers = { authorization: `Bearer ${tenant.key}` }
    const response = await fetch(url, { method: 'POST', headers, body: form })
    expect(await response.json()).toMatchObject({ digest: deployed.digest, unchanged: true })
  })

  it('goes on where it was after a kill', async () => {
    const directory = createAdapter(11)
    let stored = 0
    direct.server.fault = ({ method }) => {
      if (method !== 'PUT') return null
      stored += 1
      return stored > 2 ? { kind: 'hang' } : null
    }
    const task = join(process.cwd(), 'scripts', 'task.ts')
    const child = spawn(process.execPath, [task, 'nozzle', ...argvOf(directory, tenant)], {
      env: { ...process.env, NOZZLE_EDGE_URL: direct.pool.url, NOZZLE_API_KEY: tenant.key },
      stdio: 'ignore',
    })
    await until(() => expect(direct.keys('staging')).toHaveLength(2))
    child.kill('SIGKILL')
    await once(child, 'exit')
    const before = new Set(direct.keys('staging'))
    direct.server.fault = () => null
    direct.server.requests.splice(0)
    expect((await deploy(directory)).exitCode).toBe(0)
    const again = direct.sentParts().filter((key) => before.has(key))
    expect([direct.sentParts().length, again.length]).toEqual([2, 0])
  })

  it('bears a store that fails for a moment', async () => {
    const met = new Set<string>()
    direct.server.fault = ({ method, key }) => {
      if (method !== 'PUT' || met.has(key) || !key.includes('/staging/')) return null
      met.add(key)
      return met.size % 2 === 0 ? SLOW_DOWN : { kind: 'reset', afterBytes: 0 }
    }
    expect((await deploy(createAdapter(11))).exitCode).toBe(0)
    expect(met.size).toBe(4)
  })

  it('asks for new URLs when those it has have run out', async () => {
    let refusals = 2
    const refused = '<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>'
    direct.server.fault = ({ method }) => {
      if (method !== 'PUT' || refusals === 0) return null
      refusals -= 1
      return { kind: 'answer', status: 403, body: refused }
    }
    expect((await deploy(createAdapter())).exitCode).toBe(0)
  })

  it('sends nothing twice, but for a pack that the store has lost', async () => {
    const directory = createAdapter()
    const first = await deploy(directory)
    const sent = direct.sentParts().length
    expect(await deploy(directory)).toMatchObject({ digest: first.digest, version: 1 })
    expect(await deploy(directory, tenant, ['--force'])).toMatchObject({ version: 2 })
    expect(direct.sentParts()).toHaveLength(sent)
    direct.server.objects.clear()
    expect(await deploy(directory)).toMatchObject({ digest: first.digest, version: 2 })
    expect(direct.sentParts()).toHaveLength(2 * sent)
    expect(direct.keys('packs')).toHaveLength(1)
  })

  it('names the field of an adapter that is refused, and keeps nothing', async () => {
    const { exitCode, stderr } = await deploy(createAdapter(1, { use_dora: true }))
    expect(exitCode).toBe(4)
    expect(stderr).toContain('use_dora')
    expect([...direct.server.objects.keys()]).toEqual([])
  })

  it('says when the store is away', async () => {
    direct.server.fault = () => ({ kind: 'answer', status: 403, body: '' })
    const { exitCode, stderr } = await deploy(createAdapter())
    expect([exitCode, stderr]).toEqual([6, expect.stringContaining('The adapter store')])
  })
})

describe('another tenant', () => {
  const uploadsOf = (owner: TestTenant) => `/v1/tenants/${owner.name}/models/m/uploads`

  it('does not get an adapter by naming the hashes of its files', async () => {
    const directory = createAdapter()
    await deploy(directory)
    const other = await direct.pool.addTenant()
    const sent = direct.sentParts().length
    const { files, digest } = await planned(directory)
    const body = { files, digest }
    const path = `${uploadsOf(other)}/complete`
    const reply = await direct.pool.call('POST', path, other.key, body)
    expect(reply.status).toBe(409)
    expect(reply.headers.get('x-should-retry')).toBe('false')
    expect(await reply.json()).toMatchObject({ error: { code: 'upload_incomplete' } })
    // Who has the files is served.
    expect(await deploy(directory, other)).toMatchObject({ exitCode: 0, version: 1 })
    expect(direct.sentParts()).toHaveLength(2 * sent)
  })

  it('does not get what waits in the staging of the first', async () => {
    const directory = createAdapter()
    direct.server.fault = ({ key }) =>
      key.startsWith('pool/packs/') ? { kind: 'answer', status: 500, body: '' } : null
    expect((await deploy(directory)).exitCode).toBe(6)
    direct.server.fault = () => null
    expect(direct.keys('staging')).toHaveLength(2)
    const other = await direct.pool.addTenant()
    const { files, digest } = await planned(directory)
    const path = `${uploadsOf(other)}/complete`
    const reply = await direct.pool.call('POST', path, other.key, { files, digest })
    expect(await reply.json()).toMatchObject({ error: { code: 'upload_incomplete' } })
    const plan = await direct.pool.call('POST', uploadsOf(other), other.key, { files })
    const { parts, bytes_staged } = (await plan.json()) as {
      parts: { url: string }[]
      bytes_staged: number
    }
    expect([parts.length, bytes_staged]).toEqual([2, 0])
    expect(parts.every(({ url }) => url.includes(`/staging/${other.id}/`))).toBe(true)
    const foreign = await direct.pool.call('POST', uploadsOf(tenant), other.key, { files })
    expect(foreign.status).toBe(404)
  })

  /** What the CLI says of the files, and what they are called. */
  async function planned(directory: string) {
    const { configPath, weightsPath } = findPeftFiles(directory)
    const handles = [await open(configPath), await open(weightsPath)] as const
    const files = {
      config: await describeFile(handles[0]),
      weights: await describeFile(handles[1]),
    }
    for (const handle of handles) await handle.close()
    const reply = await direct.pool.call('POST', uploadsOf(tenant), tenant.key, { files })
    const { digest } = (await reply.json()) as { digest: string }
    return { files, digest }
  }
})

describe('the plan of an upload', () => {
  const path = () => `/v1/tenants/${tenant.name}/models/m/uploads`
  const file = { bytes: 10, sha256: 'a'.repeat(64), part_sha256: ['b'.repeat(64)] }

  it.each([
    [{ config: { ...file, part_sha256: [] }, weights: file }, 'files.config.part_sha256'],
    [{ config: file, weights: { ...file, bytes: 9e6 } }, 'files.weights.part_sha256'],
    [{ config: { ...file, sha256: '../other' }, weights: file }, 'files.config.sha256'],
    [{ config: file }, 'files.weights'],
  ])('is refused for %o, by %s', async (files, param) => {
    const reply = await direct.pool.call('POST', path(), tenant.key, { files })
    expect(reply.status).toBe(400)
    expect(await reply.json()).toMatchObject({ error: { param } })
  })

  it('is refused for a file that no host would take', async () => {
    const config = { bytes: 70_000, sha256: file.sha256, part_sha256: file.part_sha256 }
    const reply = await direct.pool.call('POST', path(), tenant.key, {
      files: { config, weights: file },
    })
    expect(reply.status).toBe(413)
    expect(await reply.json()).toMatchObject({ error: { param: 'files.config.bytes' } })
  })
})
