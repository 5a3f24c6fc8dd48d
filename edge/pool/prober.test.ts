import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { EdgeMetrics } from '../metrics.ts'
import { HostHealth } from './host-health.ts'
import { HostProber, type ProbedHost } from './prober.ts'

const nowMs = () => performance.now()
let health: HostHealth
let prober: HostProber
let server: Server
let host: ProbedHost
let asked: string[] = []
/** null = it hangs. */
let status: number | null = 200

beforeEach(async () => {
  asked = []
  status = 200
  health = new HostHealth({ nowMs, random: () => 0.5 })
  health.heard('a', { epoch: 1, uptimeMs: 60_000, isDraining: false })
  const metrics = new EdgeMetrics()
  prober = new HostProber({ health, metrics, fetch, nowMs, probeMs: 300 })
  server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    if (status !== null) response.writeHead(status).end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  host = { hostId: 'a', url: `http://127.0.0.1:${port}` }
})
afterEach(() => {
  server.close()
  server.closeAllConnections()
})

describe('a question to a host', () => {
  it.each<[number | null, string]>([
    [200, 'well'],
    [503, 'unwell'],
    [302, 'unwell'],
    [null, 'dead'],
  ])('that answers %s finds it %s', async (answer, life) => {
    status = answer
    expect(await prober.probe(host)).toBe(life)
    expect(health.standing('a').isEjected).toBe(life !== 'well')
    expect(asked).toEqual(['GET /healthz'])
  })

  it('that refuses finds it dead', async () => {
    server.close()
    await once(server, 'close')
    expect(await prober.probe(host)).toBe('dead')
  })
})

describe('many that doubt a host at once', () => {
  it.each([200, null])('ask it once, when it answers %s', async (answer) => {
    status = answer
    const sinceMs = nowMs()
    await new Promise((resolve) => setTimeout(resolve, 2))
    const found = await Promise.all(
      Array.from({ length: 100 }, () => prober.isAliveSince(host, sinceMs)),
    )
    expect(new Set(found)).toEqual(new Set([answer === 200]))
    expect(asked).toHaveLength(1)
    // Whoever doubts it for a later silence asks again.
    status = 200
    expect(await prober.isAliveSince(host, nowMs())).toBe(true)
    expect(asked).toHaveLength(2)
  })

  it('believe what it says in a call, whatever becomes of the question', async () => {
    status = null
    const sinceMs = nowMs()
    const doubts = [prober.isAliveSince(host, sinceMs), prober.probe(host)]
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(prober.isWellSince('a', sinceMs)).toBe(false)
    prober.heard('a')
    expect(prober.isWellSince('a', sinceMs)).toBe(true)
    expect(await Promise.all(doubts)).toEqual([true, 'well'])
    expect(health.standing('a').isEjected).toBe(false)
    // What was said before a silence began is no sign.
    expect(await prober.isAliveSince(host, nowMs())).toBe(false)
  })
})

describe('askers that vanish, as a Worker ends a request', () => {
  afterEach(() => vi.useRealTimers())

  it('take no room from those who come later', () => {
    let clockMs = 0
    const metrics = new EdgeMetrics()
    const hanging = () => new Promise<Response>(() => {})
    const clock = { nowMs: () => clockMs, probeMs: 300 }
    const doubtful = new HostProber({ health, metrics, fetch: hanging, ...clock })
    // Their timers go with them.
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    for (let i = 0; i < 64; i++) void doubtful.probe({ hostId: `host-${i}`, url: host.url })
    vi.clearAllTimers()
    expect(doubtful.isBusyWith('another')).toBe(true)
    clockMs = 601
    expect(doubtful.isBusyWith('another')).toBe(false)
  })
})
