/**
 * Clients that do not read, do not send, or do either as slowly as they can: each is cut, none
 * makes the edge or a host hold more than a little for it, and nobody else notices.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { liveBytes } from '../../bench/lib/collect-garbage.ts'
import { RawCaller } from '../../gpu-host/test/support/raw-caller.ts'
import { IS_SOAK, reportRun, SEED, sized } from '../../gpu-host/test/support/soak-run.ts'
import { HEADER_BYTES_MAX, REPLY_PACE } from '../limits.ts'
import { readBytes } from '../read-body.ts'
import type { TestTenant } from './support/pool-client.ts'
import { ServerSockets } from './support/server-sockets.ts'
import { startSilentClients } from './support/silent-clients.ts'
import { TestPool, until } from './support/test-pool.ts'

const CLIENTS = sized(3, 1000)
const STALL_MS = sized(1000, REPLY_PACE.graceMs)
const BUFFERED_MAX = 256 * 1024
/** Edge and host are one process here, and each may hold as much. */
const LIVE_MAX = 2 * BUFFERED_MAX
/**
 * More than the operating system takes for a client that does not read: megabytes on loopback,
 * whose segments are large. The clients of the soak have segments as on a network, and it takes
 * less.
 */
const ASKED = sized(
  { n: 8, max_tokens: 900, logprobs: true, top_logprobs: 20 },
  { n: 1, max_tokens: 16 },
)
/** Bytes of text that a token has: little work for much to read. */
const TOKEN_BYTES = sized(1, 16_384)
/** Healthy requests under way at a time, and how long their times are taken. */
const HEALTHY = 8
const MEASURE_MS = 10_000
/** Without a step for so long, the host stands still. */
const STILL_MS = 500
/** Room for all at once, though a host keeps some for tenants that have none. */
const SEQUENCES = Math.ceil(1.25 * ASKED.n * CLIENTS) + 64

let pool: TestPool
let tenant: TestTenant
/** Whom the others' clients shall not harm. */
let neighbour: TestTenant
beforeAll(async () => {
  const replyPace = { ...REPLY_PACE, graceMs: STALL_MS }
  pool = await TestPool.start({ server: { replyPace, headersTimeoutMs: 500 } })
  await pool.addHost({
    engine: {
      limits: { sequenceCount: SEQUENCES, contextLength: 1024 },
      eosOneIn: 0,
      repeats: TOKEN_BYTES,
    },
    environment: {
      NOZZLE_CONSUMER_STALL_MAX_MS: String(STALL_MS),
      NOZZLE_QUEUE_DEPTH_MAX: '100000',
      NOZZLE_QUEUE_DEPTH_TENANT_MAX: '100000',
    },
  })
  tenant = await pool.addTenant()
  neighbour = await pool.addTenant()
})
afterAll(() => pool.stop())

const asked = (): string =>
  JSON.stringify({
    ...{ model: 'fake-base', messages: [{ role: 'user', content: 'hi' }], stream: true },
    ...ASKED,
  })

/** Asks for a long stream and never reads a byte of it. */
async function neverRead(): Promise<RawCaller> {
  const caller = await RawCaller.dial(pool.url)
  caller.socket.pause()
  const headers = { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' }
  caller.begin('POST', '/v1/chat/completions', headers, Buffer.byteLength(asked()))
  caller.send(asked())
  return caller
}

/** All of them. Those of the soak are a process of their own. */
async function manyNeverRead(): Promise<() => void> {
  if (!IS_SOAK) {
    const callers = await Promise.all(Array.from({ length: CLIENTS }, neverRead))
    return () => {
      for (const caller of callers) caller.end()
    }
  }
  const head = [
    'POST /v1/chat/completions HTTP/1.1',
    'host: test',
    `authorization: Bearer ${tenant.key}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(asked())}`,
  ]
  return startSilentClients(pool.url, CLIENTS, `${head.join('\r\n')}\r\n\r\n${asked()}`)
}

/** Of all TCP connections of this machine. */
function kernelBytes(): number {
  const pages = /^TCP: .* mem (\d+)/m.exec(readFileSync('/proc/net/sockstat', 'utf8'))?.[1]
  return Number(pages) * 4096
}

async function ask(): Promise<number> {
  const startMs = performance.now()
  const response = await pool.call('POST', '/v1/chat/completions', neighbour.key, {
    ...{ model: 'fake-base', messages: [{ role: 'user', content: 'hello' }], max_tokens: 8 },
  })
  await response.text()
  if (response.status !== 200) throw new Error(`${response.status}`)
  return performance.now() - startMs
}

/** Until nobody takes any more of what it asked for. */
async function untilStill(engine: { readonly steps: number }): Promise<void> {
  for (let seen = -1; seen !== engine.steps; ) {
    seen = engine.steps
    await sleep(STILL_MS)
  }
}

/** Times of healthy requests, some at a time, until `ms` are over. */
async function healthyTimes(ms: number): Promise<number[]> {
  const endMs = performance.now() + ms
  const times: number[] = []
  const loop = async (): Promise<void> => {
    while (performance.now() < endMs) times.push(await ask())
  }
  await Promise.all(Array.from({ length: HEALTHY }, loop))
  return times
}

const quantile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.floor(times.length * part)] ?? 0

it(`${CLIENTS} clients that never read hold at most 256 KiB each, are cut, and harm nobody`, async () => {
  const sockets = new ServerSockets()
  const [host] = pool.hosts
  if (host === undefined) throw new Error('no host')
  const before = IS_SOAK ? await healthyTimes(MEASURE_MS) : []
  const liveBefore = liveBytes()
  const kernelBefore = IS_SOAK ? kernelBytes() : 0
  const startMs = performance.now()
  const leave = await manyNeverRead()
  await vi.waitFor(() => expect(pool.deps.metrics.streamsOpen).toBe(CLIENTS), {
    ...{ timeout: 60_000, interval: 10 },
  })
  const openedMs = performance.now() - startMs
  if (IS_SOAK) await untilStill(host.engine)
  const beside = await healthyTimes(IS_SOAK ? MEASURE_MS : 200)
  const liveBeside = liveBytes()
  const kernelBeside = IS_SOAK ? kernelBytes() : 0
  expect(beside.length).toBeGreaterThan(0)
  const stillOpen = pool.deps.metrics.streamsOpen
  await vi.waitFor(() => expect(pool.deps.metrics.streamsOpen).toBe(0), {
    ...{ timeout: STALL_MS + 120_000, interval: 50 },
  })
  const cutMs = performance.now() - startMs
  await until(() => expect(host.engine.openSequences.size).toBe(0))
  await until(() => expect(host.host.scheduler.load().queueDepth).toBe(0))
  const { bytesMax } = sockets
  sockets.end()
  leave()
  const after = IS_SOAK ? await healthyTimes(MEASURE_MS) : []
  expect(bytesMax).toBeGreaterThan(0)
  expect(bytesMax).toBeLessThanOrEqual(BUFFERED_MAX)
  // Nobody was cut before time.
  expect(cutMs).toBeGreaterThan(STALL_MS)
  if (!IS_SOAK) return
  const alone = Math.max(quantile(before, 0.99), quantile(after, 0.99))
  const liveEach = Math.round((liveBeside - liveBefore) / CLIENTS)
  reportRun('clients that never read', {
    ...{ seed: SEED, clients: CLIENTS, stall_ms: STALL_MS, still_open_while_measured: stillOpen },
    ...{ node_buffer_bytes_max: bytesMax, live_bytes_each: liveEach },
    kernel_bytes_each: Math.round((kernelBeside - kernelBefore) / CLIENTS),
    ...{ all_open_after_ms: Math.round(openedMs), all_cut_after_ms: Math.round(cutMs) },
    healthy_p99_ms: {
      before: quantile(before, 0.99),
      beside: quantile(beside, 0.99),
      after: quantile(after, 0.99),
    },
    healthy_requests: [before.length, beside.length, after.length],
  })
  expect(stillOpen).toBe(CLIENTS)
  expect(liveEach).toBeLessThanOrEqual(LIVE_MAX)
  expect(quantile(beside, 0.99)).toBeLessThanOrEqual(1.1 * alone)
}, 600_000)

describe('a client that sends', () => {
  it('no end of its headers is told so, and cut', async () => {
    const caller = await RawCaller.dial(pool.url)
    caller.send('GET /healthz HTTP/1.1\r\nhost: test\r\nx-slow: ')
    const trickle = setInterval(() => caller.send('a'), 50)
    try {
      const reply = await caller.reply()
      expect(reply.status).toBe(408)
      expect(JSON.parse(reply.body)).toMatchObject({ error: { code: 'request_timeout' } })
      await caller.closed
    } finally {
      clearInterval(trickle)
    }
  })

  it('nothing at all is cut as well', async () => {
    const caller = await RawCaller.dial(pool.url)
    await caller.closed
  })

  it('headers that are too large is told so, by their bytes', async () => {
    const reply = async (headers: Record<string, string>) => {
      const caller = await RawCaller.dial(pool.url)
      caller.begin('GET', '/healthz', headers)
      const answer = await caller.reply()
      caller.end()
      return answer
    }
    expect((await reply({ 'x-large': 'a'.repeat(HEADER_BYTES_MAX - 1000) })).status).toBe(200)
    const refused = await reply({ 'x-large': 'a'.repeat(HEADER_BYTES_MAX) })
    expect(refused.status).toBe(431)
    expect(JSON.parse(refused.body)).toMatchObject({ error: { code: 'headers_too_large' } })
    const many = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`x-${i}`, 'aaaa']))
    expect((await reply(many)).status).toBe(431)
  })

  it('what is no HTTP while it is answered adds nothing to the answer', async () => {
    const caller = await neverRead()
    const { socket } = caller
    await until(() => expect(pool.deps.metrics.streamsOpen).toBe(1))
    caller.send('no request at all\r\n\r\n')
    await until(() => expect(pool.deps.metrics.streamsOpen).toBe(0))
    socket.resume()
    await caller.closed
    expect(caller.received).toContain('data: ')
    expect(caller.received.split('HTTP/1.1')).toHaveLength(2)
  })

  it('what is no HTTP is refused in the same words as anything else', async () => {
    const caller = await RawCaller.dial(pool.url)
    caller.send(
      'GET /healthz HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
    )
    const reply = await caller.reply()
    expect(reply.status).toBe(400)
    expect(JSON.parse(reply.body)).toMatchObject({ error: { code: 'invalid_request' } })
    await caller.closed
  })
})

describe('a body that trickles', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  /** A body of a piece every `everyMs`, without end. */
  function trickle(bytes: number, everyMs: number): Request {
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, everyMs))
        controller.enqueue(new Uint8Array(bytes))
      },
    })
    return new Request('http://edge.test', { method: 'POST', body, duplex: 'half' } as RequestInit)
  }

  async function readFor(request: Request, ms: number): Promise<string> {
    vi.useFakeTimers()
    let outcome = 'reading'
    readBytes(request, 1e9).then(
      () => {
        outcome = 'read'
      },
      (error: { code: string }) => {
        outcome = error.code
      },
    )
    await vi.advanceTimersByTimeAsync(ms)
    return outcome
  }

  it('is given up at 15 s when it brings next to nothing, and not when its line is only slow', async () => {
    expect(await readFor(trickle(1, 1000), 14_900)).toBe('reading')
    expect(await readFor(trickle(1, 1000), 15_100)).toBe('request_timeout')
    expect(await readFor(trickle(1000, 1000), 17_000)).toBe('request_timeout')
    expect(await readFor(trickle(20_000, 1000), 120_000)).toBe('reading')
  })

  it.skipIf(!IS_SOAK)(
    'is answered 408 over a real connection, which is cut then',
    async () => {
      const caller = await RawCaller.dial(pool.url)
      const headers = { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' }
      const startMs = performance.now()
      caller.begin('POST', '/v1/chat/completions', headers, 1_000_000)
      const sending = setInterval(() => caller.send(' '), 200)
      const reply = await caller.reply()
      expect(reply.status).toBe(408)
      await caller.closed
      clearInterval(sending)
      reportRun('a body that trickles', { cut_after_ms: Math.round(performance.now() - startMs) })
    },
    60_000,
  )
})
