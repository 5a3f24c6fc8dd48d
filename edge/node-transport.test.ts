import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { createServer as createSocketServer, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
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
  try {
    for await (const piece of request) served.body += piece
  } catch {
    // It broke off: there is nobody to answer.
    return
  }
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

it('sends a stream as it comes', async () => {
  answer = (response) => response.end('whole')
  const arrived: string[] = []
  async function* pieces() {
    for (const piece of ['ü', 'ber', 'all']) {
      yield new TextEncoder().encode(piece)
      arrived.push(served.body)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  const body = ReadableStream.from(pieces())
  const signal = new AbortController().signal
  const reply = await send({ url, requestId: 'req_1', headers: {}, body, signal })
  expect(await readText(reply)).toBe('whole')
  expect(served.body).toBe('überall')
  // Not all of it at its end.
  expect(arrived.at(-1)).not.toBe('')
})

it('rejects when the stream that it sends breaks off, and the host is not told that it ended', async () => {
  const gone = new Error('the client is gone')
  const closed = new Promise<boolean>((resolve) => {
    server.once('request', (request) => request.once('close', () => resolve(request.complete)))
  })
  async function* pieces() {
    yield new TextEncoder().encode('a')
    await new Promise((resolve) => setTimeout(resolve, 50))
    throw gone
  }
  const body = ReadableStream.from(pieces())
  const signal = new AbortController().signal
  await expect(send({ url, requestId: 'req_1', headers: {}, body, signal })).rejects.toThrow()
  expect(await closed).toBe(false)
})

/** Of a server that is out of step: each reply is complete in one packet. */
describe('a reply in one packet', () => {
  let sockets: Socket[]
  let asked: number[]
  /** What the next reply says that it answers; null = nothing. */
  let answers: (asked: string) => string | null
  let told: string
  let outOfStep = ''

  beforeEach(async () => {
    sockets = []
    asked = []
    answers = (id) => id
    told = 'secret'
    const server = createSocketServer((socket) => {
      const number = sockets.push(socket)
      socket.on('error', () => {})
      socket.on('data', (bytes) => {
        const id = /x-request-id: (.*)\r\n/i.exec(bytes.toString('latin1'))?.[1] ?? ''
        asked.push(number)
        const answered = answers(id)
        const header = answered === null ? '' : `X-Request-ID: ${answered}\r\n`
        const length = `content-length: ${told.length}\r\n`
        socket.write(`HTTP/1.1 200 OK\r\n${header}${length}\r\n${told}`)
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    outOfStep = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`
    return async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    }
  })

  async function ask(requestId: string): Promise<string> {
    // A connection is free a little after its reply was read.
    await nextTurn()
    const signal = new AbortController().signal
    return readText(await send({ url: outOfStep, requestId, headers: {}, body: '{}', signal }))
  }

  it('leaves its connection open if it is to what was asked, or names no request', async () => {
    expect(await ask('req_1')).toBe('secret')
    answers = () => null
    expect(await ask('req_2')).toBe('secret')
    expect(await ask('req_3')).toBe('secret')
    expect(asked).toEqual([1, 1, 1])
  })

  it.each([
    ['with a body', 'secret'],
    // Nothing is left to be broken off.
    ['without one', ''],
  ])(
    'closes the connection of a reply to another request, %s, which nobody reads',
    async (_, text) => {
      expect(await ask('req_1')).toBe('secret')
      told = text
      answers = () => 'req_of_another'
      const [first] = sockets
      const closed = first === undefined ? expect.fail('no connection') : once(first, 'close')
      await expect(ask('req_2')).rejects.toThrow(ForeignReply)
      answers = (id) => id
      told = 'secret'
      expect(await ask('req_3')).toBe('secret')
      expect(asked).toEqual([1, 1, 2])
      await closed
    },
  )
})
