/** Limits of tenants and their keys. */
import { and, asc, eq, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { apiKeys } from '../schema/api-keys.ts'
import { type LimitRow, limits } from '../schema/limits.ts'
import { tenants } from '../schema/tenants.ts'

export type { LimitRow }

/** null = no limit. */
export interface LimitValues {
  readonly requestsPerMinute: number | null
  readonly tokensPerMinute: number | null
  readonly concurrency: number | null
  readonly monthlySpendPusd: bigint | null
}

export type ScopeLimits = LimitValues & { readonly scopeId: string }

export interface LimitScope {
  readonly tenantId: string
  /** null = the tenant itself. */
  readonly keyId: string | null
}

/**
 * Sets what is given and leaves the rest as it was, at first no limit. null when there is no such
 * tenant, or it has no such key.
 */
export async function setLimits(
  db: Db,
  { tenantId, keyId }: LimitScope,
  changes: Partial<LimitValues>,
): Promise<LimitRow | null> {
  const { requestsPerMinute, tokensPerMinute, concurrency, monthlySpendPusd } = changes
  const owner =
    keyId === null
      ? sql`${tenants} where ${tenants.id} = ${tenantId}`
      : sql`${apiKeys} where ${apiKeys.tenantId} = ${tenantId} and ${apiKeys.id} = ${keyId}`
  const [row] = await db
    .insert(limits)
    .select(
      sql`select ${keyId ?? tenantId}, ${tenantId}, ${requestsPerMinute ?? null}::bigint,
        ${tokensPerMinute ?? null}::bigint, ${concurrency ?? null}::bigint,
        ${monthlySpendPusd?.toString() ?? null}::numeric, now()
        from ${owner}`,
    )
    .onConflictDoUpdate({ target: limits.scopeId, set: { ...changes, updatedAt: sql`now()` } })
    .returning()
  return row ?? null
}

/** The tenant's own first, then its keys'. */
export async function listLimits(db: Db, tenantId: string): Promise<LimitRow[]> {
  return db
    .select()
    .from(limits)
    .where(eq(limits.tenantId, tenantId))
    .orderBy(sql`${limits.scopeId} <> ${tenantId}`, asc(limits.scopeId))
}

/** False when nothing was set. */
export async function removeLimits(db: Db, { tenantId, keyId }: LimitScope): Promise<boolean> {
  const removed = await db
    .delete(limits)
    .where(and(eq(limits.tenantId, tenantId), eq(limits.scopeId, keyId ?? tenantId)))
    .returning({ scopeId: limits.scopeId })
  return removed.length > 0
}
