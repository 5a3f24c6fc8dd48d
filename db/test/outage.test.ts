/** Databases that are not there: each driver's failure is told as one. */
import { createServer } from 'node:http'
import { neonConfig } from '@neondatabase/serverless'
import { afterEach, expect, it } from 'vitest'
import { openDatabase } from '../client.ts'
import type { Db } from '../database.ts'
import { isOutage } from '../errors.ts'
import { openNeonDatabase } from '../neon.ts'
import { databaseTimeMs } from '../queries/time.ts'

const cleanUps: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0)) await cleanUp()
})

async function failureOf(db: Db): Promise<unknown> {
  return databaseTimeMs(db).then(
    () => null,
    (error: unknown) => error,
  )
}

it('a PostgreSQL server that nobody runs', async () => {
  for (const url of [
    'postgres://postgres@127.0.0.1:1/postgres',
    'postgres://postgres@localhost/postgres?host=/nowhere',
  ]) {
    const database = await openDatabase(url)
    expect(isOutage(await failureOf(database.db))).toBe(true)
    // The probe follows; from then on nothing is sent.
    await expect.poll(() => database.availability.downForMs()).toBe(Number.POSITIVE_INFINITY)
    expect(isOutage(await failureOf(database.db))).toBe(true)
    await database.close()
  }
})

it('a Neon endpoint that refuses, fails or answers nonsense', async () => {
  const answers = [
    { status: 503, body: 'upstream connect error' },
    { status: 500, body: '{"message":"Control plane request failed"}' },
    { status: 200, body: 'not JSON' },
  ]
  const server = createServer((_request, response) => {
    const { status = 200, body } = answers.shift() ?? {}
    response.writeHead(status).end(body)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  cleanUps.push(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const { fetchEndpoint } = neonConfig
  cleanUps.push(() => {
    neonConfig.fetchEndpoint = fetchEndpoint
  })
  for (const endpoint of [...answers.map(() => port), 1]) {
    neonConfig.fetchEndpoint = `http://127.0.0.1:${endpoint}/sql`
    const { db } = openNeonDatabase('postgres://nobody:secret@neon.test/nozzle')
    expect(isOutage(await failureOf(db))).toBe(true)
  }
})

it('an embedded database that was closed', async () => {
  const database = await openDatabase('pglite:memory')
  expect(await failureOf(database.db)).toBeNull()
  await database.close()
  expect(isOutage(await failureOf(database.db))).toBe(true)
})
