/** Adapter versions: a deploy adds one and makes it the model's main one, all in one statement. */
import { desc, eq, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { type AdapterVersion, adapterVersions } from '../schema/adapter-versions.ts'

export type { AdapterVersion }

/** The lane that every model has; see schema/deployments.ts. */
export const MAIN_LANE = 0
/** Weight of a lane that has no other beside it. */
const WHOLE_WEIGHT = 100

export interface NewAdapterVersion {
  readonly tenantId: string
  readonly modelName: string
  readonly digest: string
  readonly baseModel: string
  readonly baseDigest: string
  readonly rank: number
  readonly alpha: number
  readonly useRslora: boolean
  readonly targetModules: readonly string[]
  readonly tensors: number
  readonly packBytes: number
}

export interface DeployedVersion {
  modelId: string
  versionId: string
  version: number
}

/**
 * Creates the model when its name is new, numbers the version and deploys it. The upsert of the
 * model's row locks it until the statement ends, and counts on its newest state: numbers have no
 * gaps or doubles, and the deployment is always the highest of those that ran.
 */
export async function addAdapterVersion(
  db: Db,
  input: NewAdapterVersion,
): Promise<DeployedVersion> {
  const targetModules = sql.param([...input.targetModules], adapterVersions.targetModules)
  const { rows } = await db.execute<DeployedVersion & Record<string, unknown>>(sql`
    with model as (
      insert into models (id, tenant_id, name, versions)
      values (${createId('mod')}, ${input.tenantId}, ${input.modelName}, 1)
      on conflict (tenant_id, name) where removed_at is null
        do update set versions = models.versions + 1
      returning id, tenant_id, versions
    ), version as (
      insert into adapter_versions (id, tenant_id, model_id, version, digest, base_model,
        base_digest, rank, alpha, use_rslora, target_modules, tensors, pack_bytes)
      select ${createId('ver')}, tenant_id, id, versions, ${input.digest}, ${input.baseModel},
        ${input.baseDigest}, ${input.rank}::integer, ${input.alpha}::double precision,
        ${input.useRslora}::boolean, ${targetModules}::text[], ${input.tensors}::integer,
        ${input.packBytes}::bigint
      from model
      returning id, model_id, version
    ), deployment as (
      insert into deployments (id, model_id, lane, version_id, weight)
      select ${createId('dep')}, model_id, ${MAIN_LANE}::smallint, id, ${WHOLE_WEIGHT}::integer
      from version
      on conflict (model_id, lane) do update set id = excluded.id,
        version_id = excluded.version_id, weight = excluded.weight, deployed_at = now()
      returning model_id
    )
    select version.model_id as "modelId", version.id as "versionId", version.version
    from version join deployment on deployment.model_id = version.model_id`)
  const [row] = rows
  if (!row) throw new Error('a deploy returned no row')
  return { modelId: row.modelId, versionId: row.versionId, version: row.version }
}

/** Newest first. Take the id from findModel, which knows the tenant, never from a request. */
export async function listAdapterVersions(db: Db, modelId: string): Promise<AdapterVersion[]> {
  return db
    .select()
    .from(adapterVersions)
    .where(eq(adapterVersions.modelId, modelId))
    .orderBy(desc(adapterVersions.version))
}
