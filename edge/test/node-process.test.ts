/** edge/node.ts as the process that an operator runs. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Gate } from '../../gpu-host/test/support/gate.ts'
import { createApiKey } from '../auth/api-key.ts'
import { PoolClient } from './support/pool-client.ts'
import { type PoolHost, startPoolHost } from './support/pool-host.ts'
import { edgeEnvironment, POOL_SECRET, until } from './support/test-pool.ts'

const children: ChildProcess[] = []
const hosts: PoolHost[] = []
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  for (const host of hosts.splice(0)) await host.stop()
})

function start(env: Record<string, string>): ChildProcess {
  const child = fork(join(import.meta.dirname, '..', 'node.ts'), {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env,
    execArgv: [],
  })
  children.push(child)
  return child
}

async function startReady(): Promise<{ child: ChildProcess; client: PoolClient }> {
  const operatorKey = await createApiKey()
  const child = start({ ...edgeEnvironment(operatorKey), NOZZLE_PORT: '0' })
  child.stderr?.resume()
  const [message] = (await once(child, 'message')) as [{ type: string; url: string }]
  expect(message).toEqual({
    type: 'ready',
    url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
  })
  return { child, client: new PoolClient(message.url, operatorKey) }
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  return child.exitCode
}

describe('edge process', () => {
  it('says when it serves, and finishes its streams on SIGTERM', async () => {
    const { child, client } = await startReady()
    expect((await client.call('GET', '/healthz', '')).status).toBe(200)
    const gate = new Gate()
    const host = await startPoolHost({
      edgeUrl: client.url,
      poolSecret: POOL_SECRET,
      store: new Map(),
      engine: { delay: gate.pass },
    })
    hosts.push(host)
    const tenant = await client.addTenant()
    await until(async () => {
      const health = await client.call('GET', '/healthz', '')
      expect(await health.json()).toMatchObject({ hosts_ready: 1 })
    })
    const asked = client.call('POST', '/v1/chat/completions', tenant.key, {
      model: 'fake-base',
      messages: [{ role: 'user', content: 'hello' }],
      max_tokens: 30,
      stream: true,
    })
    gate.open(3)
    const response = await asked
    child.kill('SIGTERM')
    await until(async () => {
      const refused = await client.call('GET', '/healthz', '').then(
        () => false,
        () => true,
      )
      expect(refused).toBe(true)
    })
    gate.open()
    expect((await response.text()).endsWith('data: [DONE]\n\n')).toBe(true)
    expect(await exitOf(child)).toBe(0)
  })

  it('stops when its parent has gone', async () => {
    const { child } = await startReady()
    child.disconnect()
    expect(await exitOf(child)).toBe(0)
  })

  it('names what is wrong in its environment, and shows no value', async () => {
    const child = start({
      ...edgeEnvironment(await createApiKey()),
      NOZZLE_POOL_SECRET: 'too short a secret',
      NOZZLE_OPERATOR_KEY: 'nz_wrong',
    })
    let text = ''
    child.stderr?.on('data', (bytes) => {
      text += String(bytes)
    })
    expect(await exitOf(child)).toBe(2)
    expect(text).toContain('NOZZLE_POOL_SECRET: must be at least 32 characters')
    expect(text).toContain('NOZZLE_OPERATOR_KEY')
    expect(text).not.toContain('too short a secret')
    expect(text).not.toContain('nz_wrong')
  })
})
