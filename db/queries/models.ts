/** Models of tenants: names that stand for adapter versions. Removed ones are never returned. */
import { and, asc, eq, isNull, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { adapterVersions } from '../schema/adapter-versions.ts'
import { deployments } from '../schema/deployments.ts'
import { models } from '../schema/models.ts'
import { tenants } from '../schema/tenants.ts'
import { MAIN_LANE } from './adapter-versions.ts'

/** What a request is served with. */
export interface ResolvedModel {
  tenantId: string
  tenantName: string
  modelId: string
  modelName: string
  versionId: string
  version: number
  digest: string
  baseModel: string
  packBytes: number
}

export interface ModelReference {
  readonly tenantName: string
  readonly modelName: string
  /** Absent = the deployed one. */
  readonly version?: number | null | undefined
}

const isMainLane = and(eq(deployments.modelId, models.id), eq(deployments.lane, MAIN_LANE))

/** null when the tenant, the model or the version does not exist. */
export async function resolveModel(
  db: Db,
  reference: ModelReference,
): Promise<ResolvedModel | null> {
  const { version } = reference
  const chosen =
    version === undefined || version === null
      ? eq(adapterVersions.id, deployments.versionId)
      : and(eq(adapterVersions.modelId, models.id), eq(adapterVersions.version, version))
  const [row] = await db
    .select({
      tenantId: tenants.id,
      tenantName: tenants.name,
      modelId: models.id,
      modelName: models.name,
      versionId: adapterVersions.id,
      version: adapterVersions.version,
      digest: adapterVersions.digest,
      baseModel: adapterVersions.baseModel,
      packBytes: adapterVersions.packBytes,
    })
    .from(tenants)
    .innerJoin(models, and(eq(models.tenantId, tenants.id), isNull(models.removedAt)))
    .innerJoin(deployments, isMainLane)
    .innerJoin(adapterVersions, and(chosen, eq(adapterVersions.tenantId, tenants.id)))
    .where(and(eq(tenants.name, reference.tenantName), eq(models.name, reference.modelName)))
  return row ?? null
}

/** A model with its deployed version; `versions` counts all that it ever had. */
const summary = {
  id: models.id,
  tenantId: models.tenantId,
  name: models.name,
  versions: models.versions,
  createdAt: models.createdAt,
  versionId: adapterVersions.id,
  version: adapterVersions.version,
  digest: adapterVersions.digest,
  baseModel: adapterVersions.baseModel,
  rank: adapterVersions.rank,
  alpha: adapterVersions.alpha,
  useRslora: adapterVersions.useRslora,
  targetModules: adapterVersions.targetModules,
  tensors: adapterVersions.tensors,
  packBytes: adapterVersions.packBytes,
  deployedAt: deployments.deployedAt,
}

function selectSummaries(db: Db) {
  return db
    .select(summary)
    .from(models)
    .innerJoin(deployments, isMainLane)
    .innerJoin(adapterVersions, eq(adapterVersions.id, deployments.versionId))
}

export type ModelSummary = Awaited<ReturnType<typeof selectSummaries>>[number]

/** By name. */
export async function listModels(db: Db, tenantId: string): Promise<ModelSummary[]> {
  return selectSummaries(db)
    .where(and(eq(models.tenantId, tenantId), isNull(models.removedAt)))
    .orderBy(asc(models.name))
}

export async function findModel(
  db: Db,
  model: { tenantId: string; name: string },
): Promise<ModelSummary | null> {
  const { tenantId, name } = model
  const [row] = await selectSummaries(db).where(
    and(eq(models.tenantId, tenantId), eq(models.name, name), isNull(models.removedAt)),
  )
  return row ?? null
}

/** Frees the name; versions and usage stay. false when the tenant has no such model. */
export async function removeModel(
  db: Db,
  model: { tenantId: string; name: string },
): Promise<boolean> {
  const { tenantId, name } = model
  const rows = await db
    .update(models)
    .set({ removedAt: sql`now()` })
    .where(and(eq(models.tenantId, tenantId), eq(models.name, name), isNull(models.removedAt)))
    .returning({ id: models.id })
  return rows.length > 0
}
