/** GET …/models and …/models/<id> in OpenAI's shape: what this key may name as `model`. */
import { listModels } from '#db/queries/models.ts'
import { findTenant } from '#db/queries/tenants.ts'
import type { Identity } from '../auth/authenticate.ts'
import { modelNotFound } from '../catalog/catalog.ts'
import { parseModelReference } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { type EdgeContext, identify } from '../request-context.ts'

interface ModelObject {
  readonly id: string
  readonly object: 'model'
  /** Unix seconds. */
  readonly created: number
  readonly owned_by: string
  /** The base model's id; the row of a base model has null. */
  readonly parent: string | null
  /** Digest of the deployed adapter version. */
  readonly root: string | null
  readonly max_model_len: number | null
}

/** Base models, then the tenant's own; on a model's own endpoint that model alone. */
export function listOpenaiModels(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => c.json({ object: 'list', data: await modelsFor(deps, c) })
}

export function showOpenaiModel(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const id = c.req.param('id') ?? ''
    const models = await modelsFor(deps, c)
    const identity = c.get('identity')
    const ids = new Set([id, ...withTenant(id, identity, c.req.param('tenant'))])
    const model = models.find((candidate) => ids.has(candidate.id))
    if (model === undefined) throw modelNotFound(id)
    return c.json(model)
  }
}

async function modelsFor(deps: Deps, c: EdgeContext): Promise<ModelObject[]> {
  const identity = await identify(deps, c)
  await deps.pool.ready()
  const tenantName = c.req.param('tenant')
  const modelName = c.req.param('model')
  if (tenantName === undefined || modelName === undefined) {
    return [...baseModels(deps), ...(await tenantModels(deps, identity))]
  }
  // Throws for what this key may not see.
  const caller = { identity, affinity: '', keepAlive: c.get('keepAlive') }
  await deps.catalog.resolve(caller, { tenantName, modelName, version: null })
  const own = await tenantModels(deps, identity, tenantName)
  return own.filter((model) => model.id === `${tenantName}/${modelName}`)
}

function baseModels(deps: Deps): ModelObject[] {
  const names = new Set([
    deps.config.baseModel,
    ...deps.pool.known().map((heartbeat) => heartbeat.base_model),
  ])
  return [...names].map((id) => ({
    id,
    object: 'model',
    created: 0,
    owned_by: 'nozzle',
    parent: null,
    root: null,
    max_model_len: contextLengthOf(deps, id),
  }))
}

async function tenantModels(
  deps: Deps,
  identity: Identity,
  named?: string,
): Promise<ModelObject[]> {
  const tenant = await tenantOf(deps, identity, named)
  if (tenant === null) return []
  const models = await listModels(deps.db, tenant.id)
  return models.map((model) => ({
    id: `${tenant.name}/${model.name}`,
    object: 'model',
    created: Math.floor(model.createdAt.getTime() / 1000),
    owned_by: tenant.name,
    parent: model.baseModel,
    root: model.digest,
    max_model_len: contextLengthOf(deps, model.baseModel),
  }))
}

async function tenantOf(
  deps: Deps,
  identity: Identity,
  named: string | undefined,
): Promise<{ id: string; name: string } | null> {
  if (identity.kind === 'tenant') return { id: identity.tenantId, name: identity.tenantName }
  return named === undefined ? null : findTenant(deps.db, named)
}

/** Context of the pool's smallest host; null when none serves the base model now. */
function contextLengthOf(deps: Deps, baseModel: string): number | null {
  const lengths = deps.pool
    .known()
    .filter((heartbeat) => heartbeat.base_model === baseModel)
    .map((heartbeat) => heartbeat.context_length)
  return lengths.length === 0 ? null : Math.min(...lengths)
}

/** `<model>` and `<tenant>/<model>@<version>` name the same row. */
function withTenant(id: string, identity: Identity | undefined, named?: string): string[] {
  const reference = parseModelReference(id)
  const own = identity?.kind === 'tenant' ? identity.tenantName : named
  const tenantName = reference?.tenantName ?? own
  if (reference === null || tenantName === undefined) return []
  return [`${tenantName}/${reference.modelName}`]
}
