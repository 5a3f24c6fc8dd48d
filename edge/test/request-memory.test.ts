/** What is left of a request when it is over: nothing, or the edge grows with each. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { collectGarbage } from '../../bench/lib/collect-garbage.ts'
import { FollowedClient } from '../followed-client.ts'
import type { TestTenant } from './support/pool-client.ts'
import { TestPool } from './support/test-pool.ts'

let pool: TestPool
let tenant: TestTenant
/** What each reply's headers were told through: it reaches the request. */
const admitted: WeakRef<object>[] = []
beforeAll(async () => {
  pool = await TestPool.start()
  await pool.addHost()
  tenant = await pool.addTenant()
  await pool.deploy(tenant, 'support', 'weights')
  const admit = pool.deps.admission.admit.bind(pool.deps.admission)
  pool.deps.admission.admit = (call) => {
    admitted.push(new WeakRef(call.tell))
    return admit(call)
  }
})
afterAll(() => pool.stop())

async function collectAll(): Promise<void> {
  // What one collection finds dead is let go of in a later turn, and what it held in the next one.
  for (let turn = 0; turn < 10; turn++) {
    collectGarbage()
    await nextTurn()
  }
}

describe('requests that are over', () => {
  it.each([true, false])('are let go of (stream: %s)', async (stream) => {
    admitted.length = 0
    const count = 30
    for (let i = 0; i < count; i++) {
      const body = { model: 'support', messages: [{ role: 'user', content: 'hi' }], stream }
      const response = await pool.call('POST', '/v1/chat/completions', tenant.key, body)
      expect(response.status).toBe(200)
      await response.text()
    }
    expect(admitted).toHaveLength(count)
    await collectAll()
    const kept = admitted.filter((reference) => reference.deref() !== undefined)
    // The last may still be on the stack of the connection that brought it.
    expect(kept.length).toBeLessThan(count / 3)
  })
})

describe('FollowedClient', () => {
  it('hears of its client until it is let go of', () => {
    const clients = [new AbortController(), new AbortController()] as const
    const [heard, ended] = clients.map(({ signal }) => new FollowedClient(signal))
    ended?.end()
    for (const client of clients) client.abort()
    expect(heard?.signal.aborted).toBe(true)
    expect(ended?.signal.aborted).toBe(false)
    expect(new FollowedClient(AbortSignal.abort()).signal.aborted).toBe(true)
  })
})
