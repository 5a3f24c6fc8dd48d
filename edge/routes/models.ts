/** A tenant's models: deployed by uploading an adapter version, listed, shown, removed. */
import { z } from 'zod'
import {
  type AdapterVersion,
  addAdapterVersion,
  addCanaryVersion,
  type DeployedVersion,
  listAdapterVersions,
  storedAdapters,
} from '#db/queries/adapter-versions.ts'
import { findModel, listModels, type ModelSummary, removeModel } from '#db/queries/models.ts'
import type { Tenant } from '#db/queries/tenants.ts'
import type { AdapterReceipt } from '#protocol'
import { assertRoom } from '../admission/upload-quota.ts'
import { type LanePlan, planShares, type VersionShare } from '../catalog/deployment-plan.ts'
import { MODEL_NAME } from '../catalog/model-reference.ts'
import { noModel } from '../catalog/no-such-model.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import type { UploadCall } from '../pool/upload-client.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant, audit } from '../tenant-access.ts'
import { changeLanes } from './change-lanes.ts'

/** How an uploaded version is to serve. */
export const deployWish = z.object({
  /** Percent of requests that it gets beside the main version; absent = it becomes that one. */
  canary: z.coerce.number().int().min(0).max(100).optional(),
  /** A version of its own, though the main one is of the same bytes. */
  force: z.stringbool().default(false),
})
export type DeployWish = z.infer<typeof deployWish>

/** POST …/models/:model/versions: the upload goes to a host, whose receipt becomes the version. */
export function deployVersion(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const target = await openDeploy(deps, c)
    const receipt = await deps.uploads.install(c.req.raw, target.call)
    return recordDeploy(deps, c, { ...target, receipt })
  }
}

export interface DeployTarget {
  readonly tenant: Tenant
  readonly modelName: string
  readonly wish: DeployWish
  readonly call: UploadCall
}

/** Who deploys what, and how. What is wrong is told before the upload. */
export async function openDeploy(deps: Deps, c: EdgeContext): Promise<DeployTarget> {
  const tenant = await accessTenant(deps, c)
  const modelName = c.req.param('model') ?? ''
  const wish = parseValue(deployWish, c.req.query())
  await refuseDeploy(deps, tenant, modelName, wish)
  const identity = c.get('identity')
  if (identity?.kind === 'tenant') {
    deps.uploadRate.take(tenant.id)
    assertRoom(await storedAdapters(deps.db, tenant.id), deps.config.tenantAdapterBytesMax)
  }
  const call = {
    requestId: c.get('requestId'),
    tenantId: tenant.id,
    keyId: identity?.kind === 'tenant' ? identity.keyId : null,
    baseModel: c.req.query('base_model') ?? deps.config.baseModel,
    signal: c.req.raw.signal,
  }
  return { tenant, modelName, wish, call }
}

async function refuseDeploy(
  deps: Deps,
  tenant: Tenant,
  modelName: string,
  wish: DeployWish,
): Promise<void> {
  if (!MODEL_NAME.test(modelName)) {
    throw new EdgeError(
      'invalid_request',
      'A model name is 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", the last three not at the ends.',
      { param: 'model' },
    )
  }
  if (modelName === deps.config.baseModel) {
    throw new EdgeError('invalid_request', `"${modelName}" is the base model's name.`, {
      param: 'model',
    })
  }
  if (wish.canary === undefined) return
  const model = await findModel(deps.db, { tenantId: tenant.id, name: modelName })
  if (model === null) throw noMainVersion(modelName)
}

/**
 * 201 with the new version; 200 with the one that serves, when it is of these very bytes: the main
 * one, or the canary where one is asked for, which gets the weight.
 */
export async function recordDeploy(
  deps: Deps,
  c: EdgeContext,
  deploy: Omit<DeployTarget, 'call'> & { readonly receipt: AdapterReceipt },
): Promise<Response> {
  const { tenant, modelName, receipt, wish } = deploy
  const known = await findModel(deps.db, { tenantId: tenant.id, name: modelName })
  // Whether the bytes were known is the pool's affair: another tenant may have stored them.
  const { base_digest: _, existed: __, ...facts } = receipt
  const endpoint = endpointOf(deps, c, tenant, modelName)
  const isSame = known?.digest === receipt.digest && known.baseModel === receipt.base_model
  const ofDeploy = { model: modelName, ...facts, endpoint }
  if (known !== null && isSame && !wish.force) {
    const unchanged = { unchanged: true, canary: null, ended_canary: null }
    return c.json({ ...ofDeploy, version: known.version, ...unchanged })
  }
  const running = known?.canary ?? null
  const isRunning = running?.digest === receipt.digest && running.baseModel === receipt.base_model
  if (running !== null && isRunning && wish.canary !== undefined && !wish.force) {
    const share = { version: running.version, weight: wish.canary }
    if (running.weight !== wish.canary) await reweigh(deps, c, deploy, share)
    const unchanged = { unchanged: true, canary: wish.canary, ended_canary: null }
    return c.json({ ...ofDeploy, version: running.version, ...unchanged })
  }
  const added = await addVersion(deps, deploy)
  if (added === null) throw noMainVersion(modelName)
  deps.catalog.forget(tenant.name, modelName)
  const { version } = added
  const canary = wish.canary ?? null
  const subject = `${modelName}@${version}${canary === null ? '' : `=${canary}`}`
  await audit(deps, c, { tenantId: tenant.id, action: 'model.deploy', subject })
  const ended_canary =
    running === null ? null : { version: running.version, weight: running.weight }
  return c.json({ ...ofDeploy, version, unchanged: false, canary, ended_canary }, 201)
}

/** The canary that runs gets another weight, also where it was ended a moment ago. */
async function reweigh(
  deps: Deps,
  c: EdgeContext,
  { tenant, modelName }: Pick<DeployTarget, 'tenant' | 'modelName'>,
  { version, weight }: VersionShare,
): Promise<void> {
  const plan = (model: ModelSummary): LanePlan =>
    planShares(model, [
      { version: model.version, weight: 100 - weight },
      { version, weight },
    ])
  await changeLanes(deps, c, { tenant, modelName, action: 'model.split', plan })
}

function addVersion(
  { db }: Deps,
  { tenant, modelName, receipt, wish }: Parameters<typeof recordDeploy>[2],
): Promise<DeployedVersion | null> {
  const version = {
    tenantId: tenant.id,
    modelName,
    digest: receipt.digest,
    baseModel: receipt.base_model,
    baseDigest: receipt.base_digest,
    rank: receipt.rank,
    alpha: receipt.alpha,
    useRslora: receipt.use_rslora,
    targetModules: receipt.target_modules,
    tensors: receipt.tensors,
    packBytes: receipt.pack_bytes,
  }
  if (wish.canary === undefined) return addAdapterVersion(db, version)
  return addCanaryVersion(db, { ...version, weight: wish.canary })
}

export function showModels(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const models = await listModels(deps.db, tenant.id)
    return c.json({ data: models.map((model) => toWire(deps, c, tenant, model)) })
  }
}

export function showModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const name = c.req.param('model') ?? ''
    const model = await findModel(deps.db, { tenantId: tenant.id, name })
    if (model === null) throw noModel(name)
    const history = await listAdapterVersions(deps.db, model.id)
    return c.json({ ...toWire(deps, c, tenant, model), history: history.map(toHistory) })
  }
}

/** The name is free at once here, on other edges within MODEL_TTL_MS; usage stays. */
export function dropModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const name = c.req.param('model') ?? ''
    const isRemoved = await removeModel(deps.db, { tenantId: tenant.id, name })
    if (!isRemoved) throw noModel(name)
    deps.catalog.forget(tenant.name, name)
    await audit(deps, c, { tenantId: tenant.id, action: 'model.remove', subject: name })
    return c.json({ name, deleted: true })
  }
}

function noMainVersion(name: string): EdgeError {
  return new EdgeError(
    'version_unavailable',
    `A canary needs a version beside it, and "${name}" has none: deploy it without a canary first.`,
    { param: 'canary' },
  )
}

/** The model's own OpenAI base URL. */
function endpointOf(deps: Deps, c: EdgeContext, tenant: Tenant, modelName: string): string {
  const origin = deps.config.publicUrl ?? new URL(c.req.url).origin
  return `${origin}/${tenant.name}/${modelName}/v1`
}

function toWire(deps: Deps, c: EdgeContext, tenant: Tenant, model: ModelSummary) {
  return {
    name: model.name,
    version: model.version,
    digest: model.digest,
    base_model: model.baseModel,
    rank: model.rank,
    alpha: model.alpha,
    use_rslora: model.useRslora,
    target_modules: model.targetModules,
    pack_bytes: model.packBytes,
    created_at: model.createdAt.toISOString(),
    deployed_at: model.deployedAt.toISOString(),
    versions: model.versions,
    endpoint: endpointOf(deps, c, tenant, model.name),
    replaced_version: model.replaced,
    canary: model.canary && {
      version: model.canary.version,
      digest: model.canary.digest,
      weight: model.canary.weight,
      deployed_at: model.canary.deployedAt.toISOString(),
    },
  }
}

function toHistory(version: AdapterVersion) {
  return {
    version: version.version,
    digest: version.digest,
    base_model: version.baseModel,
    rank: version.rank,
    alpha: version.alpha,
    use_rslora: version.useRslora,
    target_modules: version.targetModules,
    pack_bytes: version.packBytes,
    created_at: version.createdAt.toISOString(),
  }
}
