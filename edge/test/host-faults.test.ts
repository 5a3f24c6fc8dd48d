/**
 * Hosts that fail as sockets do: refuse, reset, accept and hang, stop in the middle, trickle, or
 * answer something else. Each is a real server on loopback; the other host of the pool is a real
 * one. What clients see, and what the edge thinks of the host afterwards.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { hosts as hostRows } from '#db/schema/hosts.ts'
import { generateRequest, HOST_ROUTES, heartbeat } from '#protocol'
import { createHeartbeat } from '../../db/test/support/records.ts'
import { RETRY_WINDOW_MS } from '../limits.ts'
import type { TestTenant } from './support/pool-client.ts'
import { expectedReply, TestPool, until } from './support/test-pool.ts'

/** A third of what is in force; hosts of these tests speak three times as often. */
const patience = { doubtMs: 330, probeMs: 250, silenceMs: 580, headersMs: 1300 }
const KEEP_ALIVE_MS = 160

let pool: TestPool
let tenant: TestTenant
const servers: Server[] = []
const timers: NodeJS.Timeout[] = []
let tests = 0
beforeAll(async () => {
  // Each test has a minute of its own: what it repeats is not taken from the next one's budget.
  const monotonicMs = () => performance.now() + tests * 2 * RETRY_WINDOW_MS
  pool = await TestPool.start({ patience, monotonicMs })
  tenant = await pool.addTenant()
  return () => pool.stop()
})
afterEach(async () => {
  tests += 1
  for (const timer of timers.splice(0)) clearInterval(timer)
  for (const host of pool.hosts.splice(0)) await host.stop()
  for (const server of servers.splice(0)) {
    server.close()
    server.closeAllConnections()
  }
  await pool.database.db.delete(hostRows)
  for (const { host_id } of pool.deps.pool.known()) pool.deps.pool.forget(host_id)
})

interface OddHost {
  readonly hostId: string
  /** Requests that it got. */
  asked: number
  probes: number
}
type Answer = (request: IncomingMessage, response: ServerResponse) => unknown
const well: Answer = (_request, response) => response.writeHead(200).end('{}')
const hang: Answer = () => {}
const reset: Answer = (request) => request.socket.resetAndDestroy()

/** Joins, and goes on beating: a host may fail its callers and still report. */
async function addOddHost(generate: Answer, health: Answer = well): Promise<OddHost> {
  const server = createServer((request, response) => {
    if (request.url === HOST_ROUTES.health) {
      odd.probes += 1
      return health(request, response)
    }
    if (request.url === HOST_ROUTES.generate) odd.asked += 1
    return generate(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const odd: OddHost = { hostId: `hst_odd_${port}`, asked: 0, probes: 0 }
  join(odd.hostId, `http://127.0.0.1:${port}`)
  return odd
}

function join(hostId: string, url: string): void {
  const { load, ...rest } = createHeartbeat()
  let beat = 0
  const report = (): void => {
    beat += 1
    const idle = { ...load, sequences_running: 0 }
    const said = { ...rest, host_id: hostId, url, beat, load: idle, adapters: [] }
    pool.deps.pool.observe(heartbeat.parse({ ...said, base_model: 'fake-base' }))
  }
  report()
  timers.push(setInterval(report, 500))
}

const chat = {
  model: 'fake-base',
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 4,
  temperature: 0,
}
const ask = (stream: boolean): Promise<Response> =>
  pool.call('POST', '/v1/chat/completions', tenant.key, { ...chat, stream })

async function expectAnswered(): Promise<void> {
  const response = await ask(false)
  const reply = (await response.json()) as { choices?: { message: { content: string } }[] }
  expect(reply.choices?.[0]?.message.content, JSON.stringify(reply)).toBe(
    expectedReply(null, 'hello', 4),
  )
}

/** More at once than go to one host. */
async function askMany(): Promise<void> {
  await Promise.all(Array.from({ length: 8 }, expectAnswered))
}

/** Until the edge has made up its mind: its upkeep is what a Node process does all the time. */
function untilStanding(hostId: string, isEjected: boolean): Promise<void> {
  return until(() => {
    pool.deps.pool.upkeep()
    expect(pool.deps.health.standing(hostId).isEjected).toBe(isEjected)
  })
}

const say = (response: ServerResponse, frame: object): void => {
  response.write(`data: ${JSON.stringify(frame)}\n\n`)
}
const chunk = (text: string, isLast = false) => ({
  type: 'chunk',
  choice: 0,
  text,
  tokens: 1,
  finish_reason: isLast ? 'length' : null,
})

async function accept(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { request_id } = generateRequest.parse(await json(request))
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  say(response, { type: 'accepted', request_id, host_id: 'odd', prompt_tokens: 1 })
}

const refuse =
  (status: number, code: string, retryAfterMs: number | null): Answer =>
  (_request, response) => {
    const error = { code, message: code, param: null, retry_after_ms: retryAfterMs }
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error }))
  }

/** Every byte of the host's stream, one in a while. */
const trickle: Answer = async (request, response) => {
  await accept(request, response)
  timers.push(setInterval(() => response.write(':'), KEEP_ALIVE_MS))
}

describe('no client notices a host that', () => {
  it('refuses connections, which is out after the first of them', async () => {
    await pool.addHost({ hostId: `hst_real_${tests}` })
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    server.close()
    join('hst_gone', `http://127.0.0.1:${port}`)
    await askMany()
    await untilStanding('hst_gone', true)
    const [state, ...others] = await pool.deps.pool.ready()
    expect([state?.hostId, others]).toEqual([`hst_real_${tests}`, []])
  })

  it.each<[string, Answer, Answer]>([
    ['resets before its headers', reset, reset],
    ['accepts and says nothing', hang, hang],
    ['accepts and says nothing, though it lives', hang, well],
    ['trickles', trickle, well],
    ['answers with a page', (_, response) => response.end('<html>'), well],
    ['answers 404', (_, response) => response.writeHead(404).end('<html>'), well],
    ['answers 500', (_, response) => response.writeHead(500).end('{}'), well],
    ['ends before its first frame', (_, response) => response.end(), well],
    [
      "answers another's request",
      (_, response) => {
        say(response, { type: 'accepted', request_id: 'req_other', host_id: 'h', prompt_tokens: 1 })
        say(response, chunk('secret'))
      },
      well,
    ],
  ])('%s', async (_what, generate, health) => {
    await pool.addHost({ hostId: `hst_real_${tests}` })
    const odd = await addOddHost(generate, health)
    await askMany()
    expect(odd.asked).toBeGreaterThan(0)
    // Three failures in a row are enough, whatever its health says; and one without an answer is.
    for (let i = 0; i < 3 && !pool.deps.health.standing(odd.hostId).isEjected; i++) await askMany()
    expect(pool.deps.health.standing(odd.hostId).isEjected).toBe(true)
    const { asked } = odd
    if (health !== well) await untilStanding(odd.hostId, true)
    await expectAnswered()
    if (health !== well) expect(odd.asked).toBe(asked)
  })
})

describe('after the first token', () => {
  it.each<[string, Answer]>([
    ['the whole host', hang],
    ['the one connection', well],
  ])('silence of %s ends the stream with an error in it', async (_what, health) => {
    let isSilent = false
    const odd = await addOddHost(
      async (request, response) => {
        await accept(request, response)
        say(response, chunk('abc'))
        isSilent = true
      },
      (request, response) => (isSilent ? health : well)(request, response),
    )
    const text = await (await ask(true)).text()
    expect(text).toContain('"content":"abc"')
    expect(text).toContain('"code":"host_failed"')
    expect(text).not.toContain('[DONE]')
    expect([odd.asked, odd.probes > 0]).toEqual([1, true])
    // A pool of one has nobody else to ask: never more than half of it is out.
    expect(await pool.deps.pool.ready()).toHaveLength(1)
  })
})

describe('a host that hung and is back', () => {
  it('is asked how it is, and begins with half of its share', async () => {
    let isHung = true
    await pool.addHost({ hostId: `hst_real_${tests}` })
    const answer: Answer = async (request, response) => {
      if (isHung) return
      if (request.method === 'GET') return well(request, response)
      await accept(request, response)
      response.destroy()
    }
    const odd = await addOddHost(answer, answer)
    await askMany()
    await untilStanding(odd.hostId, true)
    isHung = false
    await untilStanding(odd.hostId, false)
    const states = await pool.deps.pool.ready()
    const back = states.find(({ hostId }) => hostId === odd.hostId)
    expect(back?.weight).toBeGreaterThanOrEqual(0.5)
    expect(back?.weight).toBeLessThan(1)
  })
})

describe('a host that is only busy', () => {
  it('is never taken for one that hangs: 3 s between tokens, something said all the time', async () => {
    const odd = await addOddHost(async (request, response) => {
      await accept(request, response)
      const beat = setInterval(() => response.write(': waiting\n\n'), KEEP_ALIVE_MS)
      for (const text of ['a', 'b']) {
        await new Promise((resolve) => setTimeout(resolve, 3000))
        say(response, chunk(text, text === 'b'))
      }
      clearInterval(beat)
      const usage = { prompt_tokens: 1, cached_prompt_tokens: 0, completion_tokens: 2 }
      const end = { type: 'end', finish_reason: 'length', usage, adapter_source: 'none' }
      say(response, { ...end, ttft_us: 3_000_000, gpu_us: 1 })
      response.end()
    })
    const text = await (await ask(true)).text()
    expect(text).toContain('[DONE]')
    expect(pool.deps.health.standing(odd.hostId)).toMatchObject({
      isEjected: false,
      isDoubted: false,
    })
  })
})

describe('a pool that fails as a whole', () => {
  it('is tried again within the budget, and then says 503 with a hint when to come back', async () => {
    const late = refuse(503, 'request_timeout', null)
    const hosts = [await addOddHost(late), await addOddHost(late), await addOddHost(late)]
    const requests = 60
    const last: Response[] = []
    for (let i = 0; i < requests; i++) last.splice(0, 1, await ask(i % 2 === 0))
    const attempts = hosts.reduce((sum, { asked }) => sum + asked, 0)
    // Twice the 16 sequences of a host, which is more than a tenth of the requests.
    expect(attempts).toBeGreaterThan(requests)
    expect(attempts).toBeLessThanOrEqual(requests + 2 * 16)
    expect(last[0]?.status).toBe(503)
    expect(Number(last[0]?.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})

describe('a pool that refuses', () => {
  it('is asked, and who asks again at once hears the same without asking it', async () => {
    const odd = await addOddHost(refuse(503, 'queue_full', 5000))
    const first = await ask(false)
    expect([first.status, first.headers.get('retry-after')]).toEqual([503, '5'])
    // Within the tenth of a second for which a refusal is remembered: soon one is.
    await until(async () => {
      const { asked } = odd
      const again = [await ask(false), await ask(true)]
      for (const answer of again) {
        expect(answer.status).toBe(503)
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(5)
        expect(((await answer.json()) as { error: { code: string } }).error.code).toBe('overloaded')
      }
      expect(odd.asked - asked).toBeLessThan(again.length)
    })
    expect(pool.deps.health.standing(odd.hostId).isEjected).toBe(false)
  })
})
