import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type NodeServer, startNodeServer } from './node-server.ts'

/** Beyond the time that a test has. */
const GRACE_MS = 120_000

let server: NodeServer
let answered: PromiseWithResolvers<Response>
let sockets: Socket[]
beforeEach(async () => {
  answered = Promise.withResolvers()
  sockets = []
  const app = { fetch: () => answered.promise }
  server = await startNodeServer(app, { port: 0, address: '127.0.0.1' })
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await server.stop(0)
})

async function dial(): Promise<Socket> {
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  sockets.push(socket)
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

const REQUEST = 'GET / HTTP/1.1\r\nhost: edge\r\n\r\n'

describe('a stop', () => {
  it('waits for no connection that has asked nothing, or nothing more', async () => {
    await dial()
    const idle = await dial()
    answered.resolve(new Response('done'))
    idle.write(REQUEST)
    await once(idle, 'data')
    await server.stop(GRACE_MS)
  })

  it('waits for a reply, and ends its connection with it', async () => {
    const asking = await dial()
    asking.write(REQUEST)
    const told: string[] = []
    asking.on('data', (bytes: Buffer) => told.push(bytes.toString()))
    const ended = once(asking, 'end')
    await new Promise((resolve) => setTimeout(resolve, 50))
    const stopped = server.stop(GRACE_MS)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(told).toEqual([])
    answered.resolve(new Response('late'))
    await Promise.all([stopped, ended])
    expect(told.join('')).toMatch(/^HTTP\/1\.1 200 .*late/s)
  })

  it('lets go of a reply that outlasts the grace', async () => {
    const asking = await dial()
    asking.write(REQUEST)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const closed = once(asking, 'close')
    await server.stop(100)
    await closed
  })
})
