/** Tenants: who pays. Names are unique for ever. */
import { asc, eq, or } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { TENANT_WEIGHT_MAX, type Tenant, tenants } from '../schema/tenants.ts'

export { TENANT_WEIGHT_MAX, type Tenant }

/** null when the name is taken. */
export async function createTenant(db: Db, input: { name: string }): Promise<Tenant | null> {
  const [row] = await db
    .insert(tenants)
    .values({ id: createId('ten'), name: input.name })
    .onConflictDoNothing({ target: tenants.name })
    .returning()
  return row ?? null
}

/** `weight`: 1 … TENANT_WEIGHT_MAX. null when there is no such tenant. */
export async function setTenantWeight(
  db: Db,
  { id, weight }: { id: string; weight: number },
): Promise<Tenant | null> {
  const [row] = await db.update(tenants).set({ weight }).where(eq(tenants.id, id)).returning()
  return row ?? null
}

/** A name has no underscore and an id has one, so the two cannot be confused. */
export async function findTenant(db: Db, nameOrId: string): Promise<Tenant | null> {
  const [row] = await db
    .select()
    .from(tenants)
    .where(or(eq(tenants.name, nameOrId), eq(tenants.id, nameOrId)))
    .limit(1)
  return row ?? null
}

export async function listTenants(db: Db): Promise<Tenant[]> {
  return db.select().from(tenants).orderBy(asc(tenants.name))
}
