import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openDatabase } from '../client.ts'
import { recordAuditEntry } from '../queries/audit-log.ts'
import { recordUsageEvents } from '../queries/usage.ts'
import { describeOnEachDatabase, NO_POSTGRES, POSTGRES } from './support/database.ts'
import { type PostgresServer, startPostgres } from './support/postgres-server.ts'
import { addBaseModel, addTenant, createEvent } from './support/records.ts'

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
})

describe.skipIf(POSTGRES === null)(`migrate on PostgreSQL (${POSTGRES ?? NO_POSTGRES})`, () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres(POSTGRES ?? '')
  })
  afterAll(async () => {
    await server.stop()
  })

  it('applies each migration once when many processes start together', async () => {
    const starts = [1, 2, 3, 4, 5].map(() => openDatabase(server.url))
    const databases = await Promise.all(starts)
    await Promise.all(databases.map((database) => database.migrate()))
    const [first] = databases
    const applied = sql`select count(*)::integer as rows, count(distinct hash)::integer as hashes
      from drizzle.__drizzle_migrations`
    expect((await first?.db.execute(applied))?.rows).toEqual([{ rows: 2, hashes: 2 }])
    await Promise.all(databases.map((database) => database.close()))
  })
})
