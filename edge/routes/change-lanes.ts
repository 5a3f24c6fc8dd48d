/**
 * Applies a plan for a model's lanes: made anew when somebody else's change came between. In force
 * here at once, on other edges within MODEL_TTL_MS.
 */
import { changeDeployment } from '#db/queries/deployments.ts'
import { findModel, type ModelSummary } from '#db/queries/models.ts'
import type { Tenant } from '#db/queries/tenants.ts'
import type { LanePlan } from '../catalog/deployment-plan.ts'
import { noModel, noVersion } from '../catalog/no-such-model.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import type { EdgeContext } from '../request-context.ts'
import { audit } from '../tenant-access.ts'

export interface LaneChange {
  readonly tenant: Tenant
  readonly modelName: string
  /** As the audit log calls it. */
  readonly action: string
  readonly plan: (model: ModelSummary) => LanePlan
  /** Says what the lanes would be. */
  readonly isDryRun?: boolean
}

/** Of a plan that somebody else's change overtook: made anew on what is there then. */
const ATTEMPTS_MAX = 5

/** Returns what the lanes are then. */
export async function changeLanes(deps: Deps, c: EdgeContext, change: LaneChange) {
  const { tenant, modelName, action, plan, isDryRun = false } = change
  const key = { tenantId: tenant.id, name: modelName }
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const model = await findModel(deps.db, key)
    if (model === null) throw noModel(key.name)
    const lanes = plan(model)
    refuseUnknown(model, lanes)
    const outcome = { name: model.name, main: lanes.main, canary: lanes.canary, dry_run: isDryRun }
    if (isDryRun) return outcome
    const decided = { modelId: model.id, decidedOn: model.deploymentId, ...lanes }
    if (!(await changeDeployment(deps.db, decided))) continue
    deps.catalog.forget(tenant.name, model.name)
    await audit(deps, c, { tenantId: tenant.id, action, subject: toSubject(model.name, lanes) })
    return outcome
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
