/**
 * What a model's name stands for, for this caller: adapter version, base model, price, and the
 * tenant that pays. What a caller may not use looks exactly like what does not exist.
 */
import type { Db } from '#db/database.ts'
import { type ResolvedModel, resolveModel } from '#db/queries/models.ts'
import { currentPrice } from '#db/queries/prices.ts'
import type { Identity } from '../auth/authenticate.ts'
import { EdgeError } from '../errors.ts'
import { CACHE_ENTRIES_MAX, MODEL_TTL_MS, PRICE_TTL_MS } from '../limits.ts'
import { TtlCache } from '../ttl-cache.ts'
import { type ModelReference, parseModelReference } from './model-reference.ts'

/** What a request is served with, and who pays for it. */
export interface ModelTarget {
  readonly tenantId: string
  /** Name in usage: `<model>`, `<model>@<version>` where the caller chose, or the base model's. */
  readonly usageName: string
  /** null = the base model alone. */
  readonly adapter: {
    readonly modelId: string
    readonly versionId: string
    readonly digest: string
  } | null
  readonly baseModel: string
}

export interface CatalogOptions {
  readonly db: Db
  readonly nowMs: () => number
  readonly isBaseModel: (name: string) => boolean
}

export class Catalog {
  readonly #options: CatalogOptions
  readonly #models: TtlCache<ResolvedModel>
  readonly #priceIds: TtlCache<string | null>

  constructor(options: CatalogOptions) {
    this.#options = options
    const { nowMs } = options
    const entriesMax = CACHE_ENTRIES_MAX
    this.#models = new TtlCache({ ttlMs: MODEL_TTL_MS, entriesMax, nowMs })
    this.#priceIds = new TtlCache({ ttlMs: PRICE_TTL_MS, entriesMax, nowMs })
  }

  /** By the `model` of a request to the shared endpoint. Throws `model_not_found`. */
  async resolveName(identity: Identity, name: string): Promise<ModelTarget> {
    if (this.#options.isBaseModel(name)) return baseTarget(identity, name)
    const reference = parseModelReference(name)
    const tenantName = reference?.tenantName ?? ownName(identity)
    if (reference === null || tenantName === null) throw modelNotFound(name)
    return this.resolve(identity, { ...reference, tenantName })
  }

  /** Throws `model_not_found`, for another tenant's model too. */
  async resolve(
    identity: Identity,
    reference: ModelReference & { readonly tenantName: string },
  ): Promise<ModelTarget> {
    const { tenantName, modelName, version } = reference
    const suffix = version === null ? '' : `@${version}`
    const fullName = `${tenantName}/${modelName}${suffix}`
    const isAllowed = identity.kind === 'operator' || identity.tenantName === tenantName
    const model = isAllowed ? await this.#find(fullName, reference) : null
    if (model === null) throw modelNotFound(fullName)
    return {
      tenantId: model.tenantId,
      usageName: `${modelName}${suffix}`,
      adapter: { modelId: model.modelId, versionId: model.versionId, digest: model.digest },
      baseModel: model.baseModel,
    }
  }

  /** The price that a request is promised now; null when the base model has none yet. */
  async priceVersionId(baseModel: string): Promise<string | null> {
    const known = this.#priceIds.get(baseModel)
    if (known !== undefined) return known
    const id = (await currentPrice(this.#options.db, baseModel))?.id ?? null
    if (id !== null) this.#priceIds.set(baseModel, id)
    return id
  }

  /** This edge looks the model up anew; others within MODEL_TTL_MS. */
  forget(tenantName: string, modelName: string): void {
    this.#models.deleteWhere(
      (model) => model.tenantName === tenantName && model.modelName === modelName,
    )
  }

  async #find(
    fullName: string,
    reference: ModelReference & { readonly tenantName: string },
  ): Promise<ResolvedModel | null> {
    const known = this.#models.get(fullName)
    if (known !== undefined) return known
    const model = await resolveModel(this.#options.db, reference)
    // Not found is not remembered: the next deploy may be a moment away.
    if (model !== null) this.#models.set(fullName, model)
    return model
  }
}

function baseTarget(identity: Identity, baseModel: string): ModelTarget {
  if (identity.kind === 'operator') {
    throw new EdgeError(
      'permission_denied',
      "The operator key has no tenant to bill the base model to. Use a tenant's key.",
    )
  }
  return { tenantId: identity.tenantId, usageName: baseModel, adapter: null, baseModel }
}

function ownName(identity: Identity): string | null {
  return identity.kind === 'tenant' ? identity.tenantName : null
}

export function modelNotFound(name: string): EdgeError {
  return new EdgeError(
    'model_not_found',
    `The model "${name.slice(0, 200)}" does not exist or you do not have access to it.`,
    { param: 'model' },
  )
}
