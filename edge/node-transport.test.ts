import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createNodeTransport } from './node-transport.ts'
import { type HostReply, readText } from './pool/host-transport.ts'
import { ForeignReply } from './pool/own-reply.ts'

const PIECES = 512
const send = createNodeTransport()
let url = ''
let served: { path: string; body: string; sockets: Set<unknown> }
let answer: (response: ServerResponse) => void
const server = createServer(async (request, response) => {
  served.path = request.url ?? ''
  served.sockets.add(request.socket)
  served.body = ''
  for await (const piece of request) served.body += piece
  answer(response)
})

beforeEach(async () => {
  served = { path: '', body: '', sockets: new Set() }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/generate`
  return async () => {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }
})
afterEach(() => {
  answer = () => {}
})

const post = (signal = new AbortController().signal): Promise<HostReply> =>
  send({ url, requestId: 'req_1', headers: { authorization: 'Grant x' }, body: 'ümlaut', signal })

it('sends a body, reads the reply, and uses the connection again', async () => {
  answer = (response) => response.writeHead(503).end('full')
  for (const _ of Array(6)) {
    const reply = await post()
    expect(reply.status).toBe(503)
    expect(await readText(reply)).toBe('full')
    expect(await reply.read()).toBeNull()
  }
  expect(served).toMatchObject({ path: '/generate', body: 'ümlaut' })
  // One of them may be asked for while the last reply's is not free yet.
  expect(served.sockets.size).toBeLessThanOrEqual(2)
})

it('hands over each piece as it comes, and makes the host wait for whoever does not read', async () => {
  const piece = 'x'.repeat(64 * 1024)
  let sent = 0
  answer = (response) => {
    response.writeHead(200)
    const write = (): void => {
      while (sent < PIECES) {
        sent += 1
        if (!response.write(piece)) return void response.once('drain', write)
      }
      response.end()
    }
    write()
  }
  const reply = await post()
  await new Promise((resolve) => setTimeout(resolve, 200))
  // Of 32 MiB: what the sockets hold.
  expect(sent).toBeLessThan(PIECES / 2)
  expect((await readText(reply)).length).toBe(PIECES * piece.length)
})

it('ends with its signal: before it is sent, before the reply, and in the midst of it', async () => {
  const reason = new Error('enough')
  await expect(post(AbortSignal.abort(reason))).rejects.toBe(reason)
  const waiting = new AbortController()
  const closed = new Promise<void>((resolve) => {
    answer = (response) => {
      response.on('close', resolve)
      waiting.abort(reason)
    }
  })
  await expect(post(waiting.signal)).rejects.toBe(reason)
  await closed
  const reading = new AbortController()
  answer = (response) => response.writeHead(200).write('a')
  const reply = await post(reading.signal)
  expect(new TextDecoder().decode((await reply.read()) ?? undefined)).toBe('a')
  const next = reply.read()
  reading.abort(reason)
  await expect(next).rejects.toBe(reason)
  await expect(reply.read()).rejects.toBe(reason)
})

it('rejects when the connection breaks off, and says what the system says when there is none', async () => {
  answer = (response) => {
    response.writeHead(200).write('a')
    setTimeout(() => response.destroy(), 20)
  }
  await expect(post().then(readText)).rejects.toThrow()
  server.closeAllConnections()
  const gone = send({
    url: 'http://127.0.0.1:1/x',
    requestId: 'req_1',
    headers: {},
    body: '',
    signal: new AbortController().signal,
  })
  await expect(gone).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})

it('reads nothing of a reply to another request, and closes its connection', async () => {
  const closed = new Promise<void>((resolve) => {
    answer = (response) => {
      response.on('close', resolve)
      response.writeHead(200, { 'x-request-id': 'req_2' }).write('for another')
    }
  })
  await expect(post()).rejects.toThrow(ForeignReply)
  await closed
  answer = (response) => response.writeHead(200, { 'x-request-id': 'req_1' }).end('own')
  expect(await readText(await post())).toBe('own')
})
