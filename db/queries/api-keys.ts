/** API keys of tenants. Checking the hash, the scope and the revocation is the edge's. */
import { and, asc, eq, getTableColumns, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { type ApiKey, apiKeys } from '../schema/api-keys.ts'
import { tenants } from '../schema/tenants.ts'

export type { ApiKey }
export type ApiKeyWithTenant = ApiKey & { tenantName: string }

export interface NewApiKey {
  /** `key_<id>` */
  readonly id: string
  readonly tenantId: string
  readonly keyHash: string
  readonly start: string
  readonly name: string | null
  readonly scopes: readonly string[]
}

/** Throws when the id is taken or the tenant does not exist. */
export async function insertApiKey(db: Db, key: NewApiKey): Promise<ApiKey> {
  const [row] = await db
    .insert(apiKeys)
    .values({ ...key, scopes: [...key.scopes] })
    .returning()
  if (!row) throw new Error('an insert without a conflict rule returned no row')
  return row
}

/** Revoked ones too: `revokedAt` says so. The one query without a tenant: it finds out which. */
export async function findApiKey(db: Db, id: string): Promise<ApiKeyWithTenant | null> {
  const [row] = await db
    .select({ ...getTableColumns(apiKeys), tenantName: tenants.name })
    .from(apiKeys)
    .innerJoin(tenants, eq(tenants.id, apiKeys.tenantId))
    .where(eq(apiKeys.id, id))
  return row ?? null
}

/** Oldest first, revoked ones included. */
export async function listApiKeys(db: Db, tenantId: string): Promise<ApiKey[]> {
  return db
    .select()
    .from(apiKeys)
    .where(eq(apiKeys.tenantId, tenantId))
    .orderBy(asc(apiKeys.createdAt), asc(apiKeys.id))
}

/** null when the tenant has no such key. A second call keeps the time of the first. */
export async function revokeApiKey(
  db: Db,
  key: { tenantId: string; id: string },
): Promise<ApiKey | null> {
  const [row] = await db
    .update(apiKeys)
    .set({ revokedAt: sql`coalesce(${apiKeys.revokedAt}, now())` })
    .where(and(eq(apiKeys.tenantId, key.tenantId), eq(apiKeys.id, key.id)))
    .returning()
  return row ?? null
}
