/**
 * Runs one suite on every kind of database: PGlite in memory, a PostgreSQL server, and Neon's HTTP
 * client in front of that server. All with the real migrations. Where no server is installed, those
 * two are reported as skipped, with the reason.
 */
import { neonConfig } from '@neondatabase/serverless'
import { afterAll, beforeAll, describe } from 'vitest'
import { openDatabase } from '../../client.ts'
import type { Db } from '../../database.ts'
import { openNeonDatabase } from '../../neon.ts'
import { startNeonEndpoint } from './neon-endpoint.ts'
import { findPostgres, type PostgresServer, startPostgres } from './postgres-server.ts'

export const POSTGRES = findPostgres()
export const NO_POSTGRES = 'skipped: no initdb and postgres in PATH or /usr/lib/postgresql'

interface Opened {
  readonly db: Db
  close(): Promise<void>
}

/** `suite` gets a function, since the database is open only while tests run. */
export function describeOnEachDatabase(suite: (db: () => Db) => void): void {
  describe('on PGlite', () => useDatabase(openMemory, suite))
  if (POSTGRES === null) {
    describe.skip(`on PostgreSQL and Neon (${NO_POSTGRES})`, () => suite(notOpen))
    return
  }
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(POSTGRES)
  })
  afterAll(async () => {
    await server.stop()
  })
  describe('on PostgreSQL', () => useDatabase(() => openServer(server), suite))
  describe('on Neon over HTTP', () => useDatabase(() => openNeon(server), suite))
}

function useDatabase(open: () => Promise<Opened>, suite: (db: () => Db) => void): void {
  let opened: Opened | null = null
  beforeAll(async () => {
    opened = await open()
  })
  afterAll(async () => {
    await opened?.close()
  })
  suite(() => opened?.db ?? notOpen())
}

function notOpen(): never {
  throw new Error('the database is open only while a test runs')
}

async function openMemory(): Promise<Opened> {
  const database = await openDatabase('pglite:memory')
  await database.migrate()
  return database
}

/** In a database of its own, so that the suites do not find each other's rows. */
async function openServer(server: PostgresServer): Promise<Opened> {
  await server.create('direct')
  const database = await openDatabase(server.urlOf('direct'))
  await database.migrate()
  return database
}

async function openNeon(server: PostgresServer): Promise<Opened> {
  await server.create('neon')
  const database = await openDatabase(server.urlOf('neon'))
  await database.migrate()
  await database.close()
  const endpoint = await startNeonEndpoint(server.urlOf('neon'))
  const { fetchEndpoint } = neonConfig
  neonConfig.fetchEndpoint = endpoint.url
  neonConfig.disableWarningInBrowsers = true
  const close = async () => {
    neonConfig.fetchEndpoint = fetchEndpoint
    await endpoint.close()
  }
  return { db: openNeonDatabase('postgres://nobody:secret@neon.test/nozzle').db, close }
}
