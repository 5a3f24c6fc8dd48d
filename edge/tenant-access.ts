/**
 * Who may manage a tenant: the operator any, a key with the scope `deploy` its own. Another
 * tenant's name looks like one that does not exist.
 */
import { recordAuditEntry } from '#db/queries/audit-log.ts'
import { findTenant, type Tenant } from '#db/queries/tenants.ts'
import { requireOperator, requireScope } from './auth/authenticate.ts'
import type { Deps } from './deps.ts'
import { EdgeError } from './errors.ts'
import { type EdgeContext, identify } from './request-context.ts'

export async function accessAsOperator(deps: Deps, c: EdgeContext): Promise<void> {
  requireOperator(await identify(deps, c))
}

/** The tenant of the path. Throws `not_found` or `permission_denied`. */
export async function accessTenant(deps: Deps, c: EdgeContext): Promise<Tenant> {
  const identity = await identify(deps, c)
  const named = c.req.param('tenant') ?? ''
  const isOwn =
    identity.kind === 'operator' || named === identity.tenantName || named === identity.tenantId
  const tenant = isOwn ? await findTenant(deps.db, named) : null
  if (tenant === null) throw new EdgeError('not_found', `There is no tenant "${named}".`)
  requireScope(identity, 'deploy')
  return tenant
}

/** Notes who changed what. */
export async function audit(
  deps: Deps,
  c: EdgeContext,
  entry: { tenantId: string | null; action: string; subject: string },
): Promise<void> {
  const identity = c.get('identity')
  const actor = identity?.kind === 'tenant' ? identity.keyId : 'operator'
  await recordAuditEntry(deps.db, { ...entry, actor, detail: { request_id: c.get('requestId') } })
}
