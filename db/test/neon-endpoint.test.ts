/** That the endpoint of our tests speaks to Neon's client as Neon's own does. */
import { neon, neonConfig } from '@neondatabase/serverless'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type NeonEndpoint, startNeonEndpoint } from './support/neon-endpoint.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'

describe.skipIf(POSTGRES === null)(`the Neon endpoint (${POSTGRES ?? NO_POSTGRES})`, () => {
  let server: PostgresServer
  let endpoint: NeonEndpoint
  const sql = neon('postgres://nobody:secret@neon.test/nozzle')
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
    endpoint = await startNeonEndpoint(server.url)
    neonConfig.fetchEndpoint = endpoint.url
    neonConfig.disableWarningInBrowsers = true
    await sql`create table numbers (number bigint primary key)`
  })
  afterAll(async () => {
    await endpoint.close()
    await server.stop()
  })

  it('returns values of their types, nulls and arrays among them', async () => {
    const [row] = await sql`select 1::int as i, 2::bigint as b, true as t, null as n,
      array['a', null]::text[] as a, ${'x'}::text as p, timestamptz '2026-11-01T00:00:00Z' as d`
    const d = new Date('2026-11-01')
    expect(row).toEqual({ i: 1, b: '2', t: true, n: null, a: ['a', null], p: 'x', d })
  })

  it('says what PostgreSQL says of an error', async () => {
    await sql`insert into numbers values (1)`
    await expect(sql`insert into numbers values (1)`).rejects.toMatchObject({
      code: '23505',
      constraint: 'numbers_pkey',
      severity: 'ERROR',
    })
  })

  it('runs a batch in one transaction, at the level asked for', async () => {
    const [level, added] = await sql.transaction(
      [
        sql`select current_setting('transaction_isolation') as level`,
        sql`insert into numbers values (10) returning number`,
      ],
      { isolationLevel: 'RepeatableRead' },
    )
    expect(level).toEqual([{ level: 'repeatable read' }])
    expect(added).toEqual([{ number: '10' }])
    const half = sql.transaction([
      sql`insert into numbers values (11)`,
      sql`insert into numbers values (10)`,
    ])
    await expect(half).rejects.toMatchObject({ code: '23505' })
    expect(await sql`select number from numbers where number > 10`).toEqual([])
    const readOnly = { readOnly: true }
    const write = sql.transaction([sql`insert into numbers values (12)`], readOnly)
    await expect(write).rejects.toMatchObject({ code: '25006' })
  })
})
