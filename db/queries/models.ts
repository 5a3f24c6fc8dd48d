/** Models of tenants: names that stand for adapter versions. Removed ones are never returned. */
import { and, asc, eq, isNull, type SQL, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/pg-core'
import type { Db } from '../database.ts'
import { adapterVersions } from '../schema/adapter-versions.ts'
import { deployments } from '../schema/deployments.ts'
import { models } from '../schema/models.ts'
import { replacements } from '../schema/replacements.ts'
import { tenants } from '../schema/tenants.ts'
import { CANARY_LANE, MAIN_LANE } from './adapter-versions.ts'

/** An adapter version, as far as serving goes. */
export interface ServedVersion {
  versionId: string
  version: number
  digest: string
  baseModel: string
  packBytes: number
}

/** What a request is served with; the version's fields are the main one's, or the asked one's. */
export interface ResolvedModel extends ServedVersion {
  tenantId: string
  tenantName: string
  tenantWeight: number
  modelId: string
  modelName: string
  /** null = none runs, or a version was asked for. */
  canary: (ServedVersion & CanaryLane) | null
}

export interface ModelReference {
  readonly tenantName: string
  readonly modelName: string
  /** Absent = the deployed one. */
  readonly version?: number | null | undefined
}

const canaries = alias(deployments, 'canaries')
const canaryVersions = alias(adapterVersions, 'canary_versions')
const isMainLane = and(eq(deployments.modelId, models.id), eq(deployments.lane, MAIN_LANE))
const isCanaryLane = and(eq(canaries.modelId, models.id), eq(canaries.lane, CANARY_LANE))
const isCanaryVersion = eq(canaryVersions.id, canaries.versionId)

/** drizzle tells a row of an outer join that is not there by objects of one table's columns. */
const lane = { weight: canaries.weight, deployedAt: canaries.deployedAt }

function joinCanary<C>(version: C | null, lane: CanaryLane | null): (C & CanaryLane) | null {
  return version === null || lane === null ? null : { ...version, ...lane }
}

export interface CanaryLane {
  /** Percent of requests. */
  weight: number
  deployedAt: Date
}

/** null when the tenant, the model or the version does not exist. */
export async function resolveModel(
  db: Db,
  reference: ModelReference,
): Promise<ResolvedModel | null> {
  const version = reference.version ?? null
  const chosen =
    version === null
      ? eq(adapterVersions.id, deployments.versionId)
      : and(eq(adapterVersions.modelId, models.id), eq(adapterVersions.version, version))
  const [row] = await db
    .select({
      tenantId: tenants.id,
      tenantName: tenants.name,
      tenantWeight: tenants.weight,
      modelId: models.id,
      modelName: models.name,
      versionId: adapterVersions.id,
      version: adapterVersions.version,
      digest: adapterVersions.digest,
      baseModel: adapterVersions.baseModel,
      packBytes: adapterVersions.packBytes,
      lane,
      canary: {
        versionId: canaryVersions.id,
        version: canaryVersions.version,
        digest: canaryVersions.digest,
        baseModel: canaryVersions.baseModel,
        packBytes: canaryVersions.packBytes,
      },
    })
    .from(tenants)
    .innerJoin(models, and(eq(models.tenantId, tenants.id), isNull(models.removedAt)))
    .innerJoin(deployments, isMainLane)
    .innerJoin(adapterVersions, and(chosen, eq(adapterVersions.tenantId, tenants.id)))
    .leftJoin(canaries, version === null ? isCanaryLane : sql`false`)
    .leftJoin(canaryVersions, isCanaryVersion)
    .where(and(eq(tenants.name, reference.tenantName), eq(models.name, reference.modelName)))
  if (row === undefined) return null
  const { lane: canaryLane, canary, ...model } = row
  return { ...model, canary: joinCanary(canary, canaryLane) }
}

/**
 * A model with its main version, and its canary where one runs; `versions` counts all that it ever
 * had.
 */
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
  /** Where a rollback goes; null = the main version replaced none. */
  replaced: replacements.replaced,
  deployedAt: deployments.deployedAt,
  /** Names the state of both lanes, for changeDeployment. */
  deploymentId: deployments.id,
  canary: {
    version: canaryVersions.version,
    digest: canaryVersions.digest,
    baseModel: canaryVersions.baseModel,
  },
  lane,
}

async function selectSummaries(db: Db, condition: SQL | undefined) {
  const rows = await db
    .select(summary)
    .from(models)
    .innerJoin(deployments, isMainLane)
    .innerJoin(adapterVersions, eq(adapterVersions.id, deployments.versionId))
    .leftJoin(replacements, eq(replacements.versionId, adapterVersions.id))
    .leftJoin(canaries, isCanaryLane)
    .leftJoin(canaryVersions, isCanaryVersion)
    .where(and(isNull(models.removedAt), condition))
    .orderBy(asc(models.name))
  return rows.map(({ lane: canaryLane, canary, ...model }) => ({
    ...model,
    canary: joinCanary(canary, canaryLane),
  }))
}

export type ModelSummary = Awaited<ReturnType<typeof selectSummaries>>[number]

/** By name. */
export async function listModels(db: Db, tenantId: string): Promise<ModelSummary[]> {
  return selectSummaries(db, eq(models.tenantId, tenantId))
}

export async function findModel(
  db: Db,
  model: { tenantId: string; name: string },
): Promise<ModelSummary | null> {
  const { tenantId, name } = model
  const isNamed = and(eq(models.tenantId, tenantId), eq(models.name, name))
  const [row] = await selectSummaries(db, isNamed)
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
