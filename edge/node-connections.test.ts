/**
 * Replies on real sockets, of a server that is out of step: each is complete in one packet, so that
 * its connection is back in the pool before `fetch` resolves.
 */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { closeForeignReplies } from './node-connections.ts'
import { ForeignReply, requireOwn } from './pool/own-reply.ts'

let sockets: Socket[]
let asked: number[]
let logs: string[]
let url = ''
let close = async (): Promise<void> => {}
let unguard = (): void => {}
/** What the next reply says that it answers; null = nothing. */
let answers: (asked: string) => string | null
let body: string

beforeEach(async () => {
  sockets = []
  asked = []
  logs = []
  answers = (id) => id
  body = 'secret'
  const server = createServer((socket) => {
    const number = sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      const id = /x-request-id: (.*)\r\n/i.exec(bytes.toString('latin1'))?.[1] ?? ''
      asked.push(number)
      const answered = answers(id)
      const header = answered === null ? '' : `X-Request-ID: ${answered}\r\n`
      const length = `content-length: ${body.length}\r\n`
      socket.write(`HTTP/1.1 200 OK\r\n${header}${length}\r\n${body}`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  unguard = closeForeignReplies((_level, message) => logs.push(message))
  close = async () => {
    unguard()
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
})
afterEach(() => close())

async function ask(requestId: string): Promise<string> {
  // The pool takes a connection back a little after its reply was read.
  await nextTurn()
  const response = await fetch(url, { headers: { 'x-request-id': requestId } })
  return (await requireOwn(response, requestId)).text()
}

it('keeps a connection whose replies are to what was asked, or name no request', async () => {
  expect(await ask('req_1')).toBe('secret')
  answers = () => null
  expect(await ask('req_2')).toBe('secret')
  expect(await ask('req_3')).toBe('secret')
  expect(asked).toEqual([1, 1, 1])
  expect(logs).toEqual([])
})

it.each([
  ['with a body', 'secret'],
  // Nothing is left to be broken off: it is back in the pool already.
  ['without one', ''],
])(
  'closes the connection of a reply to another request, %s, which nobody reads',
  async (_, told) => {
    expect(await ask('req_1')).toBe('secret')
    body = told
    answers = () => 'req_of_another'
    const [first] = sockets
    const closed = first === undefined ? expect.fail('no connection') : once(first, 'close')
    await expect(ask('req_2')).rejects.toThrow(ForeignReply)
    answers = (id) => id
    body = 'secret'
    expect(await ask('req_3')).toBe('secret')
    expect(asked).toEqual([1, 1, 2])
    await closed
    expect(logs).toHaveLength(1)
  },
)

it('leaves calls alone that name no request', async () => {
  answers = () => 'req_of_another'
  await (await fetch(url)).text()
  await nextTurn()
  await (await fetch(url)).text()
  expect(asked).toEqual([1, 1])
  expect(logs).toEqual([])
})
