/** A key of a tenant of its own, straight in a database, for tests without an edge. */
import type { Db } from '#db/database.ts'
import { insertApiKey } from '#db/queries/api-keys.ts'
import { createTenant } from '#db/queries/tenants.ts'
import { createApiKey, type KeyHasher, parseApiKey } from '../../auth/api-key.ts'

export interface StoredKey {
  readonly key: string
  readonly id: string
  readonly tenantId: string
}

export async function storeKey(
  db: Db,
  hasher: KeyHasher,
  scopes: readonly string[] = ['generate'],
): Promise<StoredKey> {
  const tenant = await createTenant(db, { name: `t-${crypto.randomUUID()}` })
  const key = await createApiKey()
  const parsed = parseApiKey(key)
  if (tenant === null || parsed === null) throw new Error('no tenant or no key')
  const keyHash = await hasher.hash(key)
  await insertApiKey(db, { ...parsed, tenantId: tenant.id, keyHash, name: null, scopes })
  return { key, id: parsed.id, tenantId: tenant.id }
}
