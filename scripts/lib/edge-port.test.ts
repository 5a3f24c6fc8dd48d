import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { requireFreePort } from './edge-port.ts'

let server: Server
let port: number
beforeEach(async () => {
  server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  port = typeof address === 'object' && address !== null ? address.port : 0
})
afterEach(() => void server.close())

it('refuses a port that somebody has, with the variable to change', async () => {
  await expect(requireFreePort({ NOZZLE_PORT: String(port) })).rejects.toMatchObject({
    ...{ exitCode: 4, message: `port ${port} is in use` },
    fix: expect.stringContaining('NOZZLE_PORT'),
  })
})

it('takes a port that is free, any port, and leaves what is none to the edge', async () => {
  server.close()
  await once(server, 'close')
  for (const text of [String(port), '0', 'http', '70000']) {
    await requireFreePort({ NOZZLE_PORT: text })
  }
})
