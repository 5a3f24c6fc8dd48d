/** Tenants, by the operator alone: created, listed, shown, and weighed against each other. */
import { z } from 'zod'
import {
  createTenant,
  listTenants,
  setTenantWeight,
  TENANT_WEIGHT_MAX,
  type Tenant,
} from '#db/queries/tenants.ts'
import { isTenantName } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator, accessTenant, audit } from '../tenant-access.ts'

export const tenantBody = z.object({
  name: z
    .string()
    .refine(isTenantName, 'must be 3 to 40 of a-z, 0-9 and -, not at the ends, and not reserved'),
})

export function addTenant(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { name } = await readJson(c.req.raw, tenantBody, ADMIN_BYTES_MAX)
    const tenant = await createTenant(deps.db, { name })
    if (tenant === null) {
      throw new EdgeError('name_taken', `There is a tenant "${name}" already.`, { param: 'name' })
    }
    await audit(deps, c, { tenantId: tenant.id, action: 'tenant.create', subject: tenant.name })
    return c.json(toWire(tenant), 201)
  }
}

export function showTenants(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    return c.json({ data: (await listTenants(deps.db)).map(toWire) })
  }
}

export function showTenant(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    return c.json(toWire(await accessTenant(deps, c)))
  }
}

export const tenantChanges = z.strictObject({ weight: z.int().min(1).max(TENANT_WEIGHT_MAX) })

/** In force at every edge within KEY_TTL_MS. */
export function changeTenant(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { id, name } = await accessTenant(deps, c)
    const { weight } = await readJson(c.req.raw, tenantChanges, ADMIN_BYTES_MAX)
    const tenant = await setTenantWeight(deps.db, { id, weight })
    if (tenant === null) throw new EdgeError('not_found', `There is no tenant "${name}".`)
    await audit(deps, c, { tenantId: id, action: 'tenant.set', subject: name })
    return c.json(toWire(tenant))
  }
}

function toWire({ id, name, weight, createdAt }: Tenant) {
  return { id, name, weight, created_at: createdAt.toISOString() }
}
