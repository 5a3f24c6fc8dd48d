import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { expect, it } from 'vitest'
import { withinTime } from './within-time.ts'

/** Nothing else of this process runs meanwhile. */
function block(ms: number): void {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs);
}

it('gives up, and lets the promise go on', async () => {
  let answer = (_: string) => {}
  const late = new Promise<string>((resolve) => {
    answer = resolve
  })
  expect(await withinTime(late, 5)).toBeNull()
  answer('late')
  expect(await withinTime(late, 5)).toBe('late')
})

it('passes a failure on', async () => {
  await expect(withinTime(Promise.reject(new Error('no')), 1000)).rejects.toThrow('no')
})

it('takes what arrived while this process was busy', async () => {
  const server = createServer((socket) => socket.end('here')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const socket = connect(typeof address === 'object' && address !== null ? address.port : 0)
  await once(socket, 'connect')
  const data = once(socket, 'data')
  // The server's half is taken before the time begins.
  await new Promise(setImmediate)
  const answer = withinTime(data, 20)
  block(60)
  expect(String((await answer)?.[0])).toBe('here')
  server.close()
})
