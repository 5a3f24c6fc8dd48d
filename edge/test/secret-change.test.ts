/** A pool gets another secret, edge by edge and host by host, while it serves. */
import { afterEach, expect, it } from 'vitest'
import { TestPool } from './support/test-pool.ts'

const OLD = 'the secret that is to go, and was long enough'
const NEW = 'the secret that is to come, and is long enough'
/** What all processes have between two steps, in the order of docs/production.md. */
const STATES = [
  { NOZZLE_POOL_SECRET: OLD },
  { NOZZLE_POOL_SECRET: OLD, NOZZLE_POOL_SECRET_ALSO: NEW },
  { NOZZLE_POOL_SECRET: NEW, NOZZLE_POOL_SECRET_ALSO: OLD },
  { NOZZLE_POOL_SECRET: NEW },
] as const

const pools: TestPool[] = []
afterEach(async () => {
  for (const pool of pools.splice(0)) await pool.stop()
})

it.each([0, 1, 2, 3])(
  'an edge in state %i serves with hosts one step before and behind',
  async (at) => {
    const environment = STATES[at] ?? expect.fail('no such state')
    const pool = await TestPool.start({ environment })
    pools.push(pool)
    const tenant = await pool.addTenant()
    for (const beside of [at - 1, at, at + 1]) {
      const hostEnvironment = STATES[beside]
      if (hostEnvironment === undefined) continue
      // Resolves when the edge takes its reports.
      const host = await pool.addHost({ hostId: `hst_${beside}`, environment: hostEnvironment })
      const reply = await pool.call('POST', '/v1/chat/completions', tenant.key, {
        ...{ model: 'fake-base', messages: [{ role: 'user', content: 'hi' }], max_tokens: 4 },
      })
      expect(reply.status, `host in state ${beside}: ${await reply.text()}`).toBe(200)
      await host.stop()
      pool.hosts.pop()
    }
  },
)
