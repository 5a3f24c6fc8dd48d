/**
 * What a model's name stands for, for this caller: adapter version, base model, price, and the
 * tenant that pays. What a caller may not use looks exactly like what does not exist.
 */
import type { Db } from '#db/database.ts'
import { type ResolvedModel, resolveModel } from '#db/queries/models.ts'
import { currentPrice, type Price } from '#db/queries/prices.ts'
import type { Identity } from '../auth/authenticate.ts'
import { EdgeError } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import { MODEL_TTL_MS, PRICE_TTL_MS } from '../limits.ts'
import { LookupCache } from '../lookup-cache.ts'
import { type ModelReference, parseModelReference } from './model-reference.ts'
import { chooseVersion } from './version-choice.ts'

/** What a request is served with, and who pays for it. */
export interface ModelTarget {
  readonly tenantId: string
  /** Its share of a host under contention. */
  readonly tenantWeight: number
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

/** Who asks for a model. */
export interface ModelCaller {
  readonly identity: Identity
  /** As chooseVersion has it. */
  readonly affinity: string
  /** Of the request. */
  readonly keepAlive: KeepAlive
}

export interface CatalogOptions {
  readonly db: Db
  /** Monotonic. */
  readonly nowMs: () => number
  /** How long the database is known to be away; null while it answers. */
  readonly downForMs: () => number | null
  readonly isBaseModel: (name: string) => boolean
}

export class Catalog {
  readonly #options: CatalogOptions
  readonly #models: LookupCache<ResolvedModel>
  readonly #prices: LookupCache<Price>

  constructor(options: CatalogOptions) {
    this.#options = options
    const { nowMs, downForMs } = options
    this.#models = new LookupCache({ ttlMs: MODEL_TTL_MS, nowMs, downForMs })
    this.#prices = new LookupCache({ ttlMs: PRICE_TTL_MS, nowMs, downForMs })
  }

  /**
   * By the `model` of a request to the shared endpoint. Throws `model_not_found`.
   */
  async resolveName(caller: ModelCaller, name: string): Promise<ModelTarget> {
    const { identity } = caller
    if (this.#options.isBaseModel(name)) return baseTarget(identity, name)
    const reference = parseModelReference(name)
    const tenantName = reference?.tenantName ?? ownName(identity)
    if (reference === null || tenantName === null) throw modelNotFound(name)
    return this.resolve(caller, { ...reference, tenantName })
  }

  /** Throws `model_not_found`, for another tenant's model too. */
  async resolve(
    { identity, affinity, keepAlive }: ModelCaller,
    reference: ModelReference & { readonly tenantName: string },
  ): Promise<ModelTarget> {
    const { tenantName, modelName, version } = reference
    const suffix = version === null ? '' : `@${version}`
    const fullName = `${tenantName}/${modelName}${suffix}`
    const isAllowed = identity.kind === 'operator' || identity.tenantName === tenantName
    const model = isAllowed ? await this.#find(fullName, reference, keepAlive) : null
    if (model === null) throw modelNotFound(fullName)
    const { versionId, digest, baseModel } = chooseVersion(model, affinity)
    return {
      tenantId: model.tenantId,
      tenantWeight: model.tenantWeight,
      usageName: `${modelName}${suffix}`,
      adapter: { modelId: model.modelId, versionId, digest },
      baseModel,
    }
  }

  /** The price that a request is promised now; null when the base model has none yet. */
  async price(baseModel: string, keepAlive: KeepAlive): Promise<Price | null> {
    const look = () => currentPrice(this.#options.db, baseModel)
    return (await this.#prices.find(baseModel, look, keepAlive))?.value ?? null
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
    keepAlive: KeepAlive,
  ): Promise<ResolvedModel | null> {
    const look = () => resolveModel(this.#options.db, reference)
    // Not found is not remembered: the next deploy may be a moment away.
    const found = await this.#models.find(fullName, look, keepAlive)
    return found?.value ?? null
  }
}

function baseTarget(identity: Identity, baseModel: string): ModelTarget {
  if (identity.kind === 'operator') {
    throw new EdgeError(
      'permission_denied',
      "The operator key has no tenant to bill the base model to. Use a tenant's key.",
    )
  }
  const { tenantId, tenantWeight } = identity
  return { tenantId, tenantWeight, usageName: baseModel, adapter: null, baseModel }
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
