import { describe, expect, it } from 'vitest'
import { createId } from '../ids.ts'
import {
  findApiKey,
  insertApiKey,
  listApiKeys,
  type NewApiKey,
  revokeApiKey,
} from '../queries/api-keys.ts'
import { listAuditEntries, recordAuditEntry } from '../queries/audit-log.ts'
import { createTenant, findTenant, listTenants, setTenantWeight } from '../queries/tenants.ts'
import { describeOnEachDatabase } from './support/database.ts'
import { addTenant, uniqueName } from './support/records.ts'

function createKey(tenantId: string, change: Partial<NewApiKey> = {}): NewApiKey {
  const id = createId('key')
  const keyHash = 'f'.repeat(64)
  return { id, tenantId, keyHash, start: 'nz_01', name: null, scopes: ['generate'], ...change }
}

describeOnEachDatabase((db) => {
  describe('tenants', () => {
    it('are found by name and by id', async () => {
      const tenant = await addTenant(db())
      expect(tenant.id).toMatch(/^ten_/)
      expect(await findTenant(db(), tenant.name)).toEqual(tenant)
      expect(await findTenant(db(), tenant.id)).toEqual(tenant)
      expect(await findTenant(db(), 'nobody')).toBeNull()
      expect(await listTenants(db())).toContainEqual(tenant)
    })

    it('have each a name of their own, also when created at the same moment', async () => {
      const name = uniqueName('tenant')
      const tries = await Promise.all([1, 2, 3, 4].map(() => createTenant(db(), { name })))
      expect(tries.filter((tenant) => tenant !== null)).toHaveLength(1)
    })
  })

  describe('weights of tenants', () => {
    it('are 1 until they are set, and known with a key and a model of the tenant', async () => {
      const tenant = await addTenant(db())
      const other = await addTenant(db())
      const key = createKey(tenant.id)
      await insertApiKey(db(), key)
      expect(tenant.weight).toBe(1)
      const changed = await setTenantWeight(db(), { id: tenant.id, weight: 3 })
      expect(changed).toEqual({ ...tenant, weight: 3 })
      expect(await findApiKey(db(), key.id)).toMatchObject({ tenantWeight: 3 })
      expect(await findTenant(db(), other.id)).toEqual(other)
      expect(await setTenantWeight(db(), { id: 'ten_nobody', weight: 3 })).toBeNull()
    })

    it.each([0, -1, 1001])('are not %i', async (weight) => {
      const { id } = await addTenant(db())
      await expect(setTenantWeight(db(), { id, weight })).rejects.toThrow()
    })
  })

  describe('API keys', () => {
    it('are found with the name of their tenant', async () => {
      const tenant = await addTenant(db())
      const key = createKey(tenant.id, { name: 'ci "main", 1', scopes: ['generate', 'deploy'] })
      const row = await insertApiKey(db(), key)
      expect(row).toEqual({ ...key, createdAt: expect.any(Date), revokedAt: null })
      expect(await findApiKey(db(), key.id)).toEqual({
        ...row,
        tenantName: tenant.name,
        tenantWeight: 1,
        limits: [],
      })
      expect(await findApiKey(db(), 'key_unknown')).toBeNull()
    })

    it('stay found after revocation, with the time of the first one', async () => {
      const tenant = await addTenant(db())
      const key = createKey(tenant.id)
      await insertApiKey(db(), key)
      const revoked = await revokeApiKey(db(), { tenantId: tenant.id, id: key.id })
      expect(revoked?.revokedAt).toBeInstanceOf(Date)
      expect(await revokeApiKey(db(), { tenantId: tenant.id, id: key.id })).toEqual(revoked)
      expect(await findApiKey(db(), key.id)).toMatchObject({ revokedAt: revoked?.revokedAt })
      expect(await listApiKeys(db(), tenant.id)).toEqual([revoked])
    })

    it('are refused for a tenant that does not exist', async () => {
      await expect(insertApiKey(db(), createKey('ten_unknown'))).rejects.toThrow()
    })

    it("are neither shown to another tenant nor revoked in another's name", async () => {
      const [mine, theirs] = [await addTenant(db()), await addTenant(db())]
      const key = createKey(theirs.id)
      await insertApiKey(db(), key)
      expect(await listApiKeys(db(), mine.id)).toEqual([])
      expect(await revokeApiKey(db(), { tenantId: mine.id, id: key.id })).toBeNull()
      expect(await findApiKey(db(), key.id)).toMatchObject({ revokedAt: null })
    })
  })

  describe('the audit log', () => {
    it("shows a tenant its own entries, newest first, and nobody else's", async () => {
      const [mine, theirs] = [await addTenant(db()), await addTenant(db())]
      const entry = { tenantId: mine.id, actor: 'operator', action: 'key_created' }
      await recordAuditEntry(db(), { ...entry, subject: 'key_1', detail: { name: 'ci' } })
      await recordAuditEntry(db(), { ...entry, subject: 'key_2' })
      await recordAuditEntry(db(), { ...entry, tenantId: theirs.id, subject: 'key_3' })
      await recordAuditEntry(db(), { ...entry, tenantId: null, subject: 'host' })
      const entries = await listAuditEntries(db(), { tenantId: mine.id, limit: 10 })
      expect(entries).toMatchObject([
        { subject: 'key_2', detail: {} },
        { subject: 'key_1', detail: { name: 'ci' } },
      ])
      expect(await listAuditEntries(db(), { tenantId: mine.id, limit: 1 })).toHaveLength(1)
    })
  })
})
