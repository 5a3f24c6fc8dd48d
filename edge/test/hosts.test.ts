/** The operator's hand on hosts: drained, resumed, removed, over restarts and on every edge. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool, until } from './support/test-pool.ts'

interface HostRow {
  readonly host_id: string
  readonly status: string
  readonly wish: string
}

let pool: TestPool
let tenant: TestTenant
beforeAll(async () => {
  pool = await TestPool.start()
  tenant = await pool.addTenant()
  return () => pool.stop()
})
afterEach(async () => {
  for (const host of pool.hosts.splice(0)) await host.stop()
  for (const { host_id } of await list()) await order('DELETE', `${host_id}?force=true`)
  for (const { host_id } of pool.deps.pool.known()) pool.deps.pool.forget(host_id)
})

const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 4,
}
const ask = () => pool.call('POST', '/v1/chat/completions', tenant.key, chat)
const list = async () => (await pool.admin<{ data: HostRow[] }>('GET', '/v1/hosts')).data
const order = (method: string, path: string) =>
  pool.call(method, `/v1/hosts/${path}`, pool.operatorKey)
const currentEpoch = () => Math.floor((Date.now() - Date.UTC(2020, 0, 1)) / 1000)
const addHost = (hostId: string) =>
  pool.addHost({
    hostId,
    engine: { delay: () => new Promise((done) => setTimeout(done, 2)) },
  })

describe('a drained host', () => {
  it('takes nothing new at once, finishes its streams, and comes back', async () => {
    const first = await addHost('hst_a1')
    const request = { ...chat, max_tokens: 60, stream: true as const }
    const stream = await pool.sdk(tenant.key).chat.completions.create(request)
    const second = await addHost('hst_b1')
    const drained = await order('POST', 'hst_a1/drain')
    expect(await drained.json()).toMatchObject({ status: 'draining', wish: 'drain' })
    expect(first.host.scheduler.isDraining).toBe(true)
    const before = second.engine.steps
    for (let i = 0; i < 6; i++) expect((await ask()).status).toBe(200)
    expect(second.engine.steps).toBeGreaterThanOrEqual(before + 6 * chat.max_tokens)
    let text = ''
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ''
    expect(text).toHaveLength(request.max_tokens)
    const resumed = await order('POST', 'hst_a1/resume')
    expect(await resumed.json()).toMatchObject({ status: 'ready', wish: 'serve' })
    expect(first.host.scheduler.isDraining).toBe(false)
  })

  it('is asked for nothing by an edge that has not heard of it: the next one answers', async () => {
    const first = await addHost('hst_a2')
    await addHost('hst_b2')
    // As another edge would leave it: the host knows, this edge does not.
    first.host.scheduler.startDraining()
    const statuses = await Promise.all(Array.from({ length: 8 }, async () => (await ask()).status))
    expect(statuses).toEqual(Array(8).fill(200))
  })

  it('stays drained over its restart, and hears of it from the answer to its heartbeat', async () => {
    await addHost('hst_a3')
    await order('POST', 'hst_a3/drain')
    const former = pool.hosts.pop()
    await former?.stop()
    // The epoch of a new data directory is the second that it was made in.
    await until(() => expect(currentEpoch()).toBeGreaterThan(former?.host.journal.epoch ?? 0))
    const again = await addHost('hst_a3')
    await until(() => expect(again.host.scheduler.isDraining).toBe(true))
    expect(await list()).toMatchObject([{ host_id: 'hst_a3', status: 'draining', wish: 'drain' }])
    expect((await ask()).status).toBe(503)
  })
})

describe('a host', () => {
  it('is removed only when it is drained or gone, unless forced', async () => {
    const { host } = await addHost('hst_a4')
    expect((await order('DELETE', 'hst_a4')).status).toBe(422)
    await order('POST', 'hst_a4/drain')
    expect(await (await order('DELETE', 'hst_a4')).json()).toMatchObject({ removed: true })
    expect(await list()).toEqual([])
    expect((await order('GET', 'hst_a4')).status).toBe(404)
    // It still reports, and is not taken in.
    const beats = host.status().beat
    await until(() => expect(host.status().beat).toBeGreaterThan(beats + 2))
    expect(await list()).toEqual([])
    expect((await ask()).status).toBe(503)
    expect((await order('POST', 'hst_a4/resume')).status).toBe(200)
    await until(async () => expect(await list()).toMatchObject([{ host_id: 'hst_a4' }]))
    await until(async () => expect((await ask()).status).toBe(200))
    expect((await order('DELETE', 'hst_a4?force=true')).status).toBe(200)
    expect(host.scheduler.isDraining).toBe(true)
  })

  it('is the operator’s alone to command, and must exist', async () => {
    await addHost('hst_a5')
    for (const [method, path] of [
      ['POST', 'hst_a5/drain'],
      ['POST', 'hst_a5/resume'],
      ['DELETE', 'hst_a5'],
      ['GET', 'hst_a5'],
    ] as const) {
      const refused = await pool.call(method, `/v1/hosts/${path}`, tenant.key)
      expect(refused.status).toBe(403)
    }
    expect((await order('POST', 'hst_z/drain')).status).toBe(404)
    expect((await order('POST', 'hst_z/resume')).status).toBe(404)
    expect(await list()).toMatchObject([{ host_id: 'hst_a5' }])
    expect((await order('DELETE', 'hst_z')).status).toBe(404)
  })
})
