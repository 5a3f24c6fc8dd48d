import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openDatabase } from '../client.ts'
import { createId } from '../ids.ts'
import { readMigrationState } from '../migration-state.ts'
import { openPostgres } from '../postgres.ts'
import { recordAuditEntry } from '../queries/audit-log.ts'
import { ensurePartitions } from '../queries/partitions.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { rollUpUsage } from '../queries/usage-rollups.ts'
import { ledgerTotals, usageTotals } from '../queries/usage-totals.ts'
import { describeOnEachDatabase, NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'
import { addBaseModel, addTenant, createEvent } from './support/records.ts'

const MIGRATIONS = new URL('../migrations', import.meta.url)

describeOnEachDatabase((db) => {
  it.each([
    ['usage_events', 'model'],
    ['ledger_entries', 'price_basis'],
    ['prices', 'base_model'],
    ['adapter_versions', 'digest'],
    ['audit_log', 'actor'],
  ])('%s takes no update, no delete and no truncate', async (table, column) => {
    const tenant = await addTenant(db())
    const base_model = await addBaseModel(db())
    await recordUsageEvents(db(), [createEvent(tenant.id, { base_model })])
    const entry = { tenantId: tenant.id, actor: 'operator', action: 'tested', subject: 'log' }
    await recordAuditEntry(db(), entry)
    const name = sql.identifier(table)
    const refused = { cause: { message: expect.stringContaining(`${table} is append-only`) } }
    const update = sql`update ${name} set ${sql.identifier(column)} = 'x'`
    await expect(db().execute(update)).rejects.toMatchObject(refused)
    await expect(db().execute(sql`delete from ${name}`)).rejects.toMatchObject(refused)
    await expect(db().execute(sql`truncate ${name} cascade`)).rejects.toMatchObject(refused)
  })

  it('are told behind this release, or ahead of it', async () => {
    const whole = await readMigrationState(db())
    expect(whole).toEqual({ known: expect.any(Number), missing: 0, unknown: 0 })
    expect(whole.known).toBeGreaterThan(10)
    await db().execute(sql`insert into drizzle.__drizzle_migrations (hash, created_at)
      values ('later', 9000000000000)`)
    expect(await readMigrationState(db())).toEqual({ ...whole, unknown: 1 })
    await db().execute(sql`update drizzle.__drizzle_migrations set created_at = 1
      where hash = 'later' or created_at = (select min(created_at)
        from drizzle.__drizzle_migrations)`)
    expect(await readMigrationState(db())).toMatchObject({ missing: 1 })
  })
})

describeOnEachDatabase((db) => {
  const partitionOf = async (requestId: string) => {
    const found = sql`select tableoid::regclass::text as name from usage_events
      where request_id = ${requestId}`
    return (await db().execute(found)).rows[0]
  }

  it('makes months ahead once, whoever asks, and puts each id in its own', async () => {
    const now = new Date('2031-05-20T00:00:00Z')
    const made = await Promise.all([1, 2, 3].map(() => ensurePartitions(db(), now)))
    expect(made.reduce((sum, count) => sum + count, 0)).toBe(10)
    expect(await ensurePartitions(db(), new Date('2031-06-01T00:00:00Z'))).toBe(2)
    const edges = [
      '2031-05-01T00:00:00.000Z',
      '2031-05-31T23:59:59.999Z',
      '2031-06-01T00:00:00.000Z',
    ]
    const events = edges.map((ended_at) => createEvent('ten_1', { ended_at }))
    await recordUsageEvents(db(), events)
    const names = await Promise.all(events.map((event) => partitionOf(event.request_id)))
    const [may, june] = [{ name: 'usage_events_2031_05' }, { name: 'usage_events_2031_06' }]
    expect(names).toEqual([may, may, june])
  })

  it('leaves a month that has rows in the default partition there', async () => {
    const event = createEvent('ten_1', { ended_at: '2041-05-01T00:00:00Z' })
    await recordUsageEvents(db(), [event])
    expect(await ensurePartitions(db(), new Date('2041-05-20T00:00:00Z'))).toBe(8)
    expect(await partitionOf(event.request_id)).toEqual({ name: 'usage_events_default' })
  })

  it.each(['usage_events', 'ledger_entries'])(
    '%s is append-only by partition too',
    async (table) => {
      await ensurePartitions(db(), new Date('2031-05-20T00:00:00Z'))
      for (const partition of [`${table}_2031_05`, `${table}_default`]) {
        const refused = {
          cause: { message: expect.stringContaining(`${partition} is append-only`) },
        }
        const name = sql.identifier(partition)
        const change = sql`update ${name} set attempt = 2`
        await expect(db().execute(change)).rejects.toMatchObject(refused)
        await expect(db().execute(sql`delete from ${name}`)).rejects.toMatchObject(refused)
        await expect(db().execute(sql`truncate ${name}`)).rejects.toMatchObject(refused)
      }
    },
  )
})

/** The migrations as they were when the numbered one was the newest. */
function migrationsUntil(number: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'nozzle-migrations-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  cpSync(MIGRATIONS, folder, { recursive: true })
  const file = join(folder, 'meta', '_journal.json')
  const journal = JSON.parse(readFileSync(file, 'utf8'))
  writeFileSync(file, JSON.stringify({ ...journal, entries: journal.entries.slice(0, number + 1) }))
  return folder
}

describe.skipIf(POSTGRES === null)(`migrate on PostgreSQL (${POSTGRES ?? NO_POSTGRES})`, () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
  })
  afterAll(async () => {
    await server.stop()
  })

  it('moves the usage and the money of an older database over, to the last pico-USD', async () => {
    await server.create('older')
    const url = server.urlOf('older')
    const old = await openPostgres({ url, migrations: migrationsUntil(1) })
    await old.migrate()
    await old.db.execute(sql`insert into base_models (name, digest) values ('base', 'sha256:b')`)
    await old.db.execute(sql`insert into prices values ('prc_1', 'base', 1, 3, 2, 5)`)
    // One id of before ids carried a time, one of this month, one of a month long gone.
    const now = createId('req')
    await old.db.execute(sql`
      insert into usage_events
      select id, 'ten_1', null, 'bot', null, null, null, 'base', 'prc_1', 'hst_1', 1, tokens, 0, 1,
        'stop', 10, 0, null, 0, 'none', ended, ended, 'engine', ended
      from (values ('req_1', 100, timestamptz '2026-10-31T23:59:59Z'), (${now}, 20, now()),
        (${createId('req', Date.UTC(2026, 0, 2))}, 3, timestamptz '2026-01-02T00:00:00Z'))
        as event(id, tokens, ended)`)
    await old.db.execute(sql`
      insert into ledger_entries
      select 'led_' || request_id, tenant_id, request_id, prompt_tokens * 3 + 5, 'prc_1', 'named',
        ended_at
      from usage_events`)
    await old.close()
    const { db, migrate, close } = await openDatabase(url)
    await migrate()
    const total = { requests: 3, amountPusd: 123n * 3n + 3n * 5n }
    expect(await ledgerTotals(db, { tenantId: 'ten_1' })).toEqual(total)
    expect(await rollUpUsage(db)).toEqual({ entries: 3, reversed: 0 })
    expect(await ledgerTotals(db, { tenantId: 'ten_1' })).toEqual(total)
    const october = { start: new Date('2026-10-01'), end: new Date('2026-11-01') }
    const [sums] = await usageTotals(db, { tenantId: 'ten_1', ...october })
    expect(sums).toMatchObject({ requests: 1, promptTokens: 100, costPusd: 305n })
    // A copy of an old event is known still.
    const copy = createEvent('ten_1', { request_id: now })
    expect(await recordUsageEvents(db, [copy])).toEqual({ inserted: 0, known: 1 })
    await close()
  })

  it('applies each migration once when many processes start together', async () => {
    const starts = [1, 2, 3, 4, 5].map(() => openDatabase(server.url))
    const databases = await Promise.all(starts)
    await Promise.all(databases.map((database) => database.migrate()))
    const [first] = databases
    const migrations = readdirSync(MIGRATIONS).filter((name) => name.endsWith('.sql'))
    const applied = sql`select count(*)::integer as rows, count(distinct hash)::integer as hashes
      from drizzle.__drizzle_migrations`
    expect((await first?.db.execute(applied))?.rows).toEqual([
      { rows: migrations.length, hashes: migrations.length },
    ])
    await Promise.all(databases.map((database) => database.close()))
  })
})
