/** API keys of tenants. Checking the hash, the scope and the revocation is the edge's. */
import { and, asc, eq, getTableColumns, type SQL, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/pg-core'
import type { Db } from '../database.ts'
import { type ApiKey, apiKeys } from '../schema/api-keys.ts'
import { limits } from '../schema/limits.ts'
import { tenants } from '../schema/tenants.ts'
import type { ScopeLimits } from './limits.ts'

export type { ApiKey }
export type ApiKeyWithTenant = ApiKey & {
  tenantName: string
  tenantWeight: number
  /** The tenant's and the key's own, where they are set. */
  limits: ScopeLimits[]
}

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

const tenantLimits = alias(limits, 'tenant_limits')
const keyLimits = alias(limits, 'key_limits')

/** Revoked ones too: `revokedAt` says so. Without a tenant: it finds out which. */
export function findApiKey(db: Db, id: string): Promise<ApiKeyWithTenant | null> {
  return findApiKeyWhere(db, eq(apiKeys.id, id))
}

/**
 * As findApiKey, by the keyed hash of the whole key: one whose id is unknown and one whose secret
 * is wrong are the same question, and have the same answer in the same time.
 */
export function findApiKeyByHash(db: Db, keyHash: string): Promise<ApiKeyWithTenant | null> {
  return findApiKeyWhere(db, eq(apiKeys.keyHash, keyHash))
}

async function findApiKeyWhere(db: Db, isIt: SQL): Promise<ApiKeyWithTenant | null> {
  const [row] = await db
    .select({
      ...getTableColumns(apiKeys),
      tenantName: tenants.name,
      tenantWeight: tenants.weight,
      ofTenant: tenantLimits,
      ofKey: keyLimits,
    })
    .from(apiKeys)
    .innerJoin(tenants, eq(tenants.id, apiKeys.tenantId))
    .leftJoin(tenantLimits, eq(tenantLimits.scopeId, apiKeys.tenantId))
    .leftJoin(keyLimits, eq(keyLimits.scopeId, apiKeys.id))
    .where(isIt)
  if (row === undefined) return null
  const { ofTenant, ofKey, ...key } = row
  return { ...key, limits: [ofTenant, ofKey].filter((each) => each !== null) }
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
