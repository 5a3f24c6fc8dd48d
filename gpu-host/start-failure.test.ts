import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, it } from 'vitest'
import { startFailureOf } from './start-failure.ts'

it('a port in use is nothing that another try could change', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  const address = holder.address()
  const port = typeof address === 'object' ? address?.port : 0
  const late = createServer().listen(port, '127.0.0.1')
  const [error] = await once(late, 'error')
  holder.close()
  expect(startFailureOf(error)).toMatchObject({
    exitCode: 2,
    code: 'EADDRINUSE',
    fix: expect.stringContaining('NOZZLE_HOST_PORT'),
  })
})

it('a device that fails may not fail at the next try', () => {
  const error = Object.assign(new Error('lost'), { code: 'backend_failed' })
  expect(startFailureOf(error)).toMatchObject({ exitCode: 1, reason: 'lost' })
  expect(startFailureOf(new Error('who knows'))).toEqual({
    ...{ exitCode: 1, code: 'start_failed', reason: 'who knows' },
  })
})
