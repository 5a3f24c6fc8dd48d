import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type CutReason, guardConnections, WriteProgress } from './connection-guard.ts'

const open: (Server | Socket)[] = []
afterEach(() => {
  for (const each of open.splice(0)) {
    if ('closeAllConnections' in each) each.closeAllConnections()
    if ('close' in each) each.close()
    else each.destroy()
  }
})

async function start(
  answer: Parameters<typeof createServer>[1],
  graceMs = 200,
): Promise<{ port: number; cuts: CutReason[]; server: Server }> {
  const cuts: CutReason[] = []
  const server = createServer(answer)
  guardConnections(server, {
    pace: { graceMs, bytesPerSecond: 1024 ** 3 },
    lingerMs: 50,
    sweepMs: 20,
    onCut: (reason) => cuts.push(reason),
  })
  open.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return { port: typeof address === 'object' ? (address?.port ?? 0) : 0, cuts, server }
}

async function dial(port: number, text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  open.push(socket)
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

describe('WriteProgress', () => {
  it('counts from when the last bytes were taken, and nothing where nothing waits', () => {
    const progress = new WriteProgress()
    expect(progress.waitedMs(0, 0, 1000)).toBe(0)
    expect(progress.waitedMs(10, 5, 2000)).toBe(0)
    expect(progress.waitedMs(10, 5, 5000)).toBe(3000)
    expect(progress.waitedMs(10, 6, 6000)).toBe(0)
    expect(progress.waitedMs(10, 6, 7000)).toBe(1000)
    expect(progress.waitedMs(0, 16, 8000)).toBe(0)
    expect(progress.waitedMs(10, 16, 50_000)).toBe(0)
  })
})

describe('a connection', () => {
  it('whose client reads nothing is cut', async () => {
    const { port, cuts, server } = await start((_request, response) => {
      response.end(Buffer.alloc(64 * 1024 * 1024))
    })
    const socket = await dial(port, 'GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    socket.pause()
    await vi.waitFor(() => expect(cuts).toEqual(['reply_not_read']), 10_000)
    const connections = () =>
      new Promise((resolve) => server.getConnections((_error, count) => resolve(count)))
    await vi.waitFor(async () => expect(await connections()).toBe(0))
  })

  it('that sends on while it reads nothing is cut all the same', async () => {
    const { port, cuts } = await start((_request, response) => {
      response.end(Buffer.alloc(64 * 1024 * 1024))
    })
    const socket = await dial(port, 'GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    socket.pause()
    const sending = setInterval(() => socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n'), 10)
    await vi
      .waitFor(() => expect(cuts).toEqual(['reply_not_read']), 10_000)
      .finally(() => {
        clearInterval(sending)
      })
  })

  it('that waits for its answer is left alone, however long it takes', async () => {
    const { port, cuts } = await start((_request, response) => {
      setTimeout(() => response.end('late'), 600)
    })
    const socket = await dial(port, 'GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    const [reply] = await once(socket, 'data')
    expect(String(reply)).toContain('late')
    expect(cuts).toEqual([])
  })

  it('that goes on with its body after the answer is cut, and has read the answer', async () => {
    const { port, cuts } = await start((_request, response) => response.end('done'))
    const socket = await dial(port, 'GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n')
    const [reply] = await once(socket, 'data')
    expect(String(reply)).toContain('done')
    const trickle = setInterval(() => socket.write('x'), 10)
    await vi
      .waitFor(() => expect(cuts).toEqual(['body_not_wanted']), 10_000)
      .finally(() => {
        clearInterval(trickle)
      })
  })
})
