import { describe, expect, it } from 'vitest'
import { runAttempt } from './attempt.ts'
import { fetchTransport, tellForeign } from './host-transport.ts'
import { ForeignReply, requireOwn } from './own-reply.ts'

const accepted = (request_id: string) => ({
  ...{ type: 'accepted', request_id, host_id: 'hst_1', prompt_tokens: 1 },
})
const chunk = { type: 'chunk', choice: 0, text: 'abc', tokens: 1, finish_reason: null }
const end = {
  ...{ type: 'end', finish_reason: 'length', adapter_source: 'none', ttft_us: 1, gpu_us: 1 },
  usage: { prompt_tokens: 1, cached_prompt_tokens: 0, completion_tokens: 1 },
}

function reply(events: readonly object[]): Response {
  const body = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
}

/** What an attempt at `req_1` makes of the reply; by its signal the connection goes. */
async function attempt(send: () => Promise<Response>) {
  const read: string[] = []
  let signal = new AbortController().signal
  const call = {
    requestId: 'req_1',
    send: (given: AbortSignal) => {
      signal = given
      const post = { url: 'http://host.test/', requestId: 'req_1', headers: {}, body: '' }
      return fetchTransport(send)({ ...post, signal })
    },
    cancel: async () => {},
    client: new AbortController().signal,
    isWhole: false,
    patience: { doubtMs: 1000, probeMs: 1000, silenceMs: 2000, headersMs: 2000 },
    nowMs: () => performance.now(),
    onHeard: () => {},
    isAliveSince: async () => true,
  }
  for await (const event of runAttempt(call)) {
    read.push(event.type === 'failure' ? event.hostCode : event.type)
  }
  return { read, isCut: signal.aborted }
}

describe('a reply to another request', () => {
  it.each<[string, object[], string[]]>([
    ['from its first event on', [accepted('req_2'), chunk, end], ['wrong_reply']],
    ['without saying of which', [chunk, end], ['wrong_reply']],
    [
      'behind the beginning of the own one',
      [accepted('req_1'), chunk, accepted('req_2'), chunk, end],
      ['chunk', 'wrong_reply'],
    ],
  ])('is read by nobody, %s', async (_, events, expected) => {
    const { read, isCut } = await attempt(async () => reply(events))
    expect(read).toEqual(expected)
    expect(isCut).toBe(true)
  })

  it('is known by its headers, whatever its events say', async () => {
    const foreign = async () => {
      const response = reply([accepted('req_1'), chunk, end])
      response.headers.set('x-request-id', 'req_2')
      return requireOwn(response, 'req_1')
    }
    await expect(foreign()).rejects.toThrow(ForeignReply)
    expect((await attempt(foreign)).read).toEqual(['wrong_reply'])
  })

  it('is told to whoever looks at the log, and no other failure is', async () => {
    const told: unknown[] = []
    const post = { url: 'http://host.test/', headers: {}, body: '' }
    const { signal } = new AbortController()
    const ask = (requestId: string, fetched: () => Promise<Response>) => {
      const send = tellForeign(fetchTransport(fetched), (...line) => told.push(line))
      return send({ ...post, requestId, signal })
    }
    const ofFirst = async () => new Response('', { headers: { 'x-request-id': 'req_1' } })
    await ask('req_1', ofFirst)
    await expect(ask('req_2', ofFirst)).rejects.toThrow(ForeignReply)
    await expect(ask('req_3', () => Promise.reject(new Error('gone')))).rejects.toThrow('gone')
    expect(told).toEqual([['error', expect.any(String), { request_id: 'req_2' }]])
  })

  it('is not one that names the own request, or none', async () => {
    const own = async () => requireOwn(reply([accepted('req_1'), chunk, end]), 'req_1')
    expect((await attempt(own)).read).toEqual(['chunk', 'end'])
  })
})
