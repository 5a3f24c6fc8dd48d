/**
 * Which versions of a tenant's model serve: split between two, promotion of the canary, rollback.
 * In force here at once, on other edges within MODEL_TTL_MS; a request that was admitted before
 * ends on the version that it began with.
 */
import { z } from 'zod'
import type { Tenant } from '#db/queries/tenants.ts'
import { planPromotion, planRollback, planShares, planWeight } from '../catalog/deployment-plan.ts'
import type { Deps } from '../deps.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { parseValue, readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant } from '../tenant-access.ts'
import { changeLanes, type LaneChange } from './change-lanes.ts'

const percent = z.int().min(0).max(100)
const versionNumber = z.int().min(1).max(999_999_999)
const share = z.strictObject({ version: versionNumber, weight: percent })

export const splitBody = z.union([
  z.strictObject({ canary_weight: percent }),
  z.strictObject({ versions: z.array(share).min(1).max(2) }),
])
/** `dry_run`: says what the lanes would be. */
export const deployOptions = z.object({ dry_run: z.stringbool().default(false) })
export const rollbackBody = z.strictObject({ to: versionNumber.nullish() })

export function splitModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const wish = await readJson(c.req.raw, splitBody, ADMIN_BYTES_MAX)
    return change(deps, c, tenant, 'model.split', (model) =>
      'versions' in wish ? planShares(model, wish.versions) : planWeight(model, wish.canary_weight),
    )
  }
}

export function promoteCanary(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => change(deps, c, await accessTenant(deps, c), 'model.promote', planPromotion)
}

export function rollBackModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const { to = null } = await readJson(c.req.raw, rollbackBody, ADMIN_BYTES_MAX)
    return change(deps, c, tenant, 'model.rollback', (model) => planRollback(model, to))
  }
}

async function change(
  deps: Deps,
  c: EdgeContext,
  tenant: Tenant,
  action: string,
  plan: LaneChange['plan'],
): Promise<Response> {
  const { dry_run: isDryRun } = parseValue(deployOptions, c.req.query())
  const modelName = c.req.param('model') ?? ''
  return c.json(await changeLanes(deps, c, { tenant, modelName, action, plan, isDryRun }))
}
