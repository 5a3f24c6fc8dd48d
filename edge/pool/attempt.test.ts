/**
 * A call to a real server while this process is away: the server has a thread of its own, and so
 * answers while this one is blocked.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createNodeTransport } from '../node-transport.ts'
import { runAttempt } from './attempt.ts'
import { fetchTransport } from './host-transport.ts'

const SERVER = `
  const { createServer } = require('node:http')
  const { parentPort, workerData } = require('node:worker_threads')
  const gate = new Int32Array(workerData)
  const server = createServer((request, response) => {
    // Until the other thread is blocked.
    Atomics.wait(gate, 0, 0)
    response.writeHead(503, { 'content-type': 'application/json' })
    const error = { code: 'queue_full', message: 'read', param: null, retry_after_ms: null }
    response.end(JSON.stringify({ error }), () => {
      Atomics.store(gate, 1, 1)
      Atomics.notify(gate, 1)
    })
  })
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))
`
/** One slice is left when the doubt is answered. */
const patience = { doubtMs: 200, probeMs: 200, silenceMs: 240, headersMs: 240 }
const AWAY_MS = 3 * patience.headersMs

let gate: Int32Array
let server: Worker
let url: string
beforeEach(async () => {
  const shared = new SharedArrayBuffer(8)
  gate = new Int32Array(shared)
  server = new Worker(SERVER, { eval: true, workerData: shared })
  const [port] = await once(server, 'message')
  url = `http://127.0.0.1:${port}`
})
afterEach(() => server.terminate())

/** Returns when the reply lies in the socket, and every limit on its silence is over. */
function beAway(): void {
  Atomics.store(gate, 0, 1)
  Atomics.notify(gate, 0)
  Atomics.wait(gate, 1, 0)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, AWAY_MS)
}

const leaves: [string, () => void][] = [
  ['while it asked whether the host lives', beAway],
  // After the sockets had their turn, so that timers are next.
  ['when the last of the silence passed', () => setImmediate(beAway)],
]

describe.each([
  ['fetch', fetchTransport(fetch)],
  ['Node', createNodeTransport()],
])('over %s', (_, send) => {
  it.each(leaves)('reads the reply that came while this process was away, %s', async (_, leave) => {
    const events = []
    let doubts = 0
    const attempt = runAttempt({
      requestId: 'req_1',
      send: (signal) => send({ url, requestId: 'req_1', headers: {}, body: '{}', signal }),
      cancel: async () => {},
      client: new AbortController().signal,
      isWhole: false,
      patience,
      nowMs: () => performance.now(),
      onHeard: () => {},
      isAliveSince: async () => {
        doubts += 1
        leave()
        return true
      },
    })
    for await (const event of attempt) events.push(event)
    expect(doubts).toBe(1)
    expect(events).toMatchObject([{ type: 'failure', hostCode: 'queue_full' }])
  })
})

it('hears that the client left before it passes on what came while this process was away', async () => {
  const frame = (event: object): string => `data: ${JSON.stringify(event)}\n\n`
  const accepted = { type: 'accepted', request_id: 'req_1', host_id: 'hst_1', prompt_tokens: 1 }
  const chunk = { type: 'chunk', choice: 0, text: 'a', tokens: 1, finish_reason: null }
  const burst = frame(accepted) + frame(chunk).repeat(100)
  const pieces = [Buffer.from(frame(accepted) + frame(chunk)), Buffer.from(burst)]
  const client = new AbortController()
  const attempt = runAttempt({
    requestId: 'req_1',
    send: async () => ({
      status: 200,
      async read() {
        const piece = pieces.shift() ?? null
        // In the same turn of the loop as the burst, and behind it.
        if (pieces.length === 0) setImmediate(() => client.abort())
        return piece
      },
    }),
    cancel: async () => {},
    client: client.signal,
    isWhole: false,
    patience,
    nowMs: () => performance.now(),
    onHeard: () => {},
    isAliveSince: async () => true,
  })
  const events: unknown[] = []
  const reading = (async () => {
    for await (const event of attempt) events.push(event)
  })()
  await expect(reading).rejects.toMatchObject({ code: 'request_aborted' })
  expect(events).toHaveLength(1)
})
