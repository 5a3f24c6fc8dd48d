/** Edges and hosts whose clocks are a day off: what they bill, and when, is the database's time. */
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { openDatabase } from '../../db/client.ts'
import { idTimeMs } from '../../db/ids.ts'
import { databaseTimeMs } from '../../db/queries/time.ts'
import {
  findPostgres,
  type PostgresServer,
  startPostgres,
} from '../../db/test/support/postgres-server.ts'
import { until } from '../../edge/test/support/test-pool.ts'
import { ask } from './client.ts'
import { Cluster } from './cluster.ts'

const BINARIES = findPostgres()
const DAY_MS = 86_400_000
/** Far above what a round trip to the database on the same machine can hide. */
const TOLERANCE_MS = 2000

const row = z.object({
  request_id: z.string(),
  ended_at: z.coerce.date(),
  occurred_at: z.coerce.date(),
  charged_at: z.coerce.date(),
})

let server: PostgresServer
beforeAll(async () => {
  if (BINARIES !== null) server = await startPostgres(BINARIES)
}, 60_000)
afterAll(async () => {
  await server?.stop()
})

async function rowsOf(url: string) {
  const database = await openDatabase(url)
  try {
    const { rows } = await database.db.execute(sql`
      select event.request_id, event.ended_at, event.occurred_at, entry.occurred_at as charged_at
      from usage_events event join ledger_entries entry using (request_id)`)
    return { rows: z.array(row).parse(rows), nowMs: await databaseTimeMs(database.db) }
  } finally {
    await database.close()
  }
}

describe.skipIf(BINARIES === null).concurrent('an edge and its hosts', () => {
  it.each([DAY_MS, -DAY_MS])('%i ms off bill by the database', async (offMs) => {
    const name = offMs > 0 ? 'ahead' : 'behind'
    await server.create(name)
    const url = server.urlOf(name)
    const cluster = await Cluster.start(url, 1, offMs)
    try {
      const { nowMs: startMs } = await rowsOf(url)
      const [key] = cluster.tenant.keys
      if (key === undefined) throw new Error('no key')
      const asked = { isStream: false, tokens: 5, choices: 1 }
      const target = { url: cluster.url, key, prompt: 'what time is it' }
      const replies = []
      for (let i = 0; i < 5; i++) replies.push(await ask(target, i, asked, () => {}))
      const told = replies.map(({ requestId }) => requestId ?? '').sort()
      const { rows, nowMs: endMs } = await until(async () => {
        const seen = await rowsOf(url)
        expect(seen.rows.map((event) => event.request_id).sort()).toEqual(told)
        return seen
      })
      for (const event of rows) {
        // The host's own clock is as wrong as it was made.
        expect(Math.abs(event.ended_at.getTime() - offMs - startMs)).toBeLessThan(DAY_MS / 2)
        const atMs = event.occurred_at.getTime()
        expect(atMs).toBeGreaterThanOrEqual(startMs - TOLERANCE_MS)
        expect(atMs).toBeLessThanOrEqual(endMs + TOLERANCE_MS)
        expect(event.charged_at).toEqual(event.occurred_at)
        expect(idTimeMs(event.request_id)).toBe(atMs)
      }
      const metrics = await (await fetch(`${cluster.url}/metrics`)).text()
      const [, off] = /^nozzle_edge_clock_offset_seconds (\S+)$/m.exec(metrics) ?? []
      expect(Math.round(Number(off))).toBeCloseTo(-offMs / 1000, -1)
    } finally {
      await cluster.stop()
    }
  })
})
