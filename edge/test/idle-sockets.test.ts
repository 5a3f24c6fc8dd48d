/** Connections by the thousand that ask nothing, or half of it: each costs little, not for long. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { liveBytes } from '../../bench/lib/collect-garbage.ts'
import { reportRun, SEED, sized } from '../../gpu-host/test/support/soak-run.ts'
import { HEADERS_TIMEOUT_MS } from '../limits.ts'
import type { TestTenant } from './support/pool-client.ts'
import { ServerSockets } from './support/server-sockets.ts'
import { startSilentClients } from './support/silent-clients.ts'
import { TestPool } from './support/test-pool.ts'

const CONNECTIONS = sized(200, 10_000)
const TIMEOUT_MS = sized(2000, HEADERS_TIMEOUT_MS)
/** Of this process, for each. */
const LIVE_BYTES_MAX = 16 * 1024

/** What half of them say; the others say nothing. */
const BEGUN = 'GET /healthz HTTP/1.1\r\nhost: test\r\nx-slow: '

let pool: TestPool
let tenant: TestTenant
beforeAll(async () => {
  pool = await TestPool.start({ server: { headersTimeoutMs: TIMEOUT_MS } })
  await pool.addHost()
  tenant = await pool.addTenant()
})
afterAll(() => pool.stop())

async function ask(): Promise<number> {
  const startMs = performance.now()
  const body = { model: 'fake-base', messages: [{ role: 'user', content: 'hi' }], max_tokens: 4 }
  const reply = await pool.call('POST', '/v1/chat/completions', tenant.key, body)
  expect(reply.status, await reply.text()).toBe(200)
  return performance.now() - startMs
}

const TITLE = `${CONNECTIONS} connections that ask nothing cost little, are cut, and keep nobody out`
it(TITLE, async () => {
  await ask()
  const sockets = new ServerSockets()
  const liveBefore = liveBytes()
  const startMs = performance.now()
  const leave = ['', BEGUN].map((text) => startSilentClients(pool.url, CONNECTIONS / 2, text))
  const within = { timeout: TIMEOUT_MS, interval: 10 }
  await vi.waitFor(() => expect(sockets.open).toBeGreaterThanOrEqual(CONNECTIONS), within)
  const openedMs = performance.now() - startMs
  const liveEach = Math.round((liveBytes() - liveBefore) / CONNECTIONS)
  const beside: number[] = []
  while (sockets.open >= CONNECTIONS && beside.length < 50) beside.push(await ask())
  expect(beside.length).toBeGreaterThan(0)
  // The pool's own are few.
  const cut = { timeout: TIMEOUT_MS + 60_000, interval: 50 }
  await vi.waitFor(() => expect(sockets.open).toBeLessThan(CONNECTIONS / 20), cut)
  const cutMs = performance.now() - startMs
  sockets.end()
  for (const end of leave) end()
  await ask()
  reportRun('connections that ask nothing', {
    ...{ seed: SEED, connections: CONNECTIONS, timeout_ms: TIMEOUT_MS },
    ...{ live_bytes_each: liveEach, all_open_after_ms: Math.round(openedMs) },
    ...{ all_cut_after_ms: Math.round(cutMs), served_beside_ms_max: Math.max(...beside) },
  })
  expect(liveEach).toBeLessThanOrEqual(LIVE_BYTES_MAX)
}, 300_000)
