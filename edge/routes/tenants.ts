/** Tenants, by the operator alone: POST and GET /v1/tenants. */
import { z } from 'zod'
import { createTenant, listTenants, type Tenant } from '#db/queries/tenants.ts'
import { isTenantName } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator, audit } from '../tenant-access.ts'

const body = z.object({
  name: z
    .string()
    .refine(isTenantName, 'must be 3 to 40 of a-z, 0-9 and -, not at the ends, and not reserved'),
})

export function addTenant(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { name } = await readJson(c.req.raw, body, ADMIN_BYTES_MAX)
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

function toWire({ id, name, createdAt }: Tenant) {
  return { id, name, created_at: createdAt.toISOString() }
}
