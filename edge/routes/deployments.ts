/**
 * Which versions of a tenant's model serve: split between two, promotion of the canary, rollback.
 * In force here at once, on other edges within MODEL_TTL_MS; a request that was admitted before
 * ends on the version that it began with.
 */
import { z } from 'zod'
import { changeDeployment } from '#db/queries/deployments.ts'
import { findModel, type ModelSummary } from '#db/queries/models.ts'
import type { Tenant } from '#db/queries/tenants.ts'
import {
  type LanePlan,
  planPromotion,
  planRollback,
  planShares,
  planWeight,
} from '../catalog/deployment-plan.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { ADMIN_BYTES_MAX } from '../limits.ts'
import { parseValue, readJson } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant, audit } from '../tenant-access.ts'
import { noModel, noVersion } from './models.ts'

const percent = z.int().min(0).max(100)
const versionNumber = z.int().min(1).max(999_999_999)
const share = z.strictObject({ version: versionNumber, weight: percent })

const split = z.union([
  z.strictObject({ canary_weight: percent }),
  z.strictObject({ versions: z.array(share).min(1).max(2) }),
])
/** `dry_run`: says what the lanes would be. */
const options = z.object({ dry_run: z.stringbool().default(false) })
const rollback = z.strictObject({ to: versionNumber.nullish() })

/** Of a plan that somebody else's change overtook: made anew on what is there then. */
const ATTEMPTS_MAX = 5

export function splitModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const wish = await readJson(c.req.raw, split, ADMIN_BYTES_MAX)
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
    const { to = null } = await readJson(c.req.raw, rollback, ADMIN_BYTES_MAX)
    return change(deps, c, tenant, 'model.rollback', (model) => planRollback(model, to))
  }
}

async function change(
  deps: Deps,
  c: EdgeContext,
  tenant: Tenant,
  action: string,
  plan: (model: ModelSummary) => LanePlan,
): Promise<Response> {
  const { dry_run: isDryRun } = parseValue(options, c.req.query())
  const key = { tenantId: tenant.id, name: c.req.param('model') ?? '' }
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const model = await findModel(deps.db, key)
    if (model === null) throw noModel(key.name)
    const lanes = plan(model)
    refuseUnknown(model, lanes)
    const outcome = { name: model.name, main: lanes.main, canary: lanes.canary }
    if (isDryRun) return c.json({ ...outcome, dry_run: true })
    const decided = { modelId: model.id, decidedOn: model.deploymentId, ...lanes }
    if (!(await changeDeployment(deps.db, decided))) continue
    deps.catalog.forget(tenant.name, model.name)
    await audit(deps, c, { tenantId: tenant.id, action, subject: toSubject(model.name, lanes) })
    return c.json({ ...outcome, dry_run: false })
  }
  throw new EdgeError('deployment_changed', `"${key.name}" is being changed by somebody else.`)
}

/** Versions have no gaps, so the newest number says which there are. */
function refuseUnknown(model: ModelSummary, { main, canary }: LanePlan): void {
  for (const version of [main, canary?.version ?? main]) {
    if (version > model.versions) throw noVersion(model.name, version)
  }
}

/** `bot@3`, or `bot@3=90 @4=10`. */
function toSubject(name: string, { main, canary }: LanePlan): string {
  if (canary === null) return `${name}@${main}`
  return `${name}@${main}=${100 - canary.weight} @${canary.version}=${canary.weight}`
}
