/** A tenant's models: deployed by uploading an adapter version, listed, shown, removed. */
import {
  type AdapterVersion,
  addAdapterVersion,
  listAdapterVersions,
} from '#db/queries/adapter-versions.ts'
import { findModel, listModels, type ModelSummary, removeModel } from '#db/queries/models.ts'
import type { Tenant } from '#db/queries/tenants.ts'
import { MODEL_NAME } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessTenant, audit } from '../tenant-access.ts'

/** POST …/models/:model/versions: the upload goes to a host, whose receipt becomes the version. */
export function deployVersion(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const tenant = await accessTenant(deps, c)
    const modelName = c.req.param('model') ?? ''
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
    const identity = c.get('identity')
    const receipt = await deps.uploads.install(c.req.raw, {
      requestId: c.get('requestId'),
      tenantId: tenant.id,
      keyId: identity?.kind === 'tenant' ? identity.keyId : null,
      baseModel: c.req.query('base_model') ?? deps.config.baseModel,
    })
    const { version } = await addAdapterVersion(deps.db, {
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
    })
    deps.catalog.forget(tenant.name, modelName)
    const subject = `${modelName}@${version}`
    await audit(deps, c, { tenantId: tenant.id, action: 'model.deploy', subject })
    // Whether the bytes were known is the pool's affair: another tenant may have stored them.
    const { base_digest: _, existed: __, ...facts } = receipt
    const endpoint = endpointOf(deps, c, tenant, modelName)
    return c.json({ model: modelName, version, ...facts, endpoint }, 201)
  }
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

function noModel(name: string): EdgeError {
  return new EdgeError('not_found', `There is no model "${name}".`)
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
