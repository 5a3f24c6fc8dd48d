/**
 * Adapter versions: a deploy adds one and makes it the model's main one, or its canary, all in one
 * statement.
 */
import { and, asc, desc, eq, inArray, isNull, type SQL, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { type AdapterVersion, adapterVersions } from '../schema/adapter-versions.ts'
import { models } from '../schema/models.ts'
import { tenants } from '../schema/tenants.ts'

export type { AdapterVersion }

/** The lane that every model has, and the one beside it; see schema/deployments.ts. */
export const MAIN_LANE = 0
export const CANARY_LANE = 1
/** The main lane's weight; see schema/deployments.ts. */
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
 * Creates the model when its name is new, numbers the version and deploys it for all requests: a
 * canary that runs ends. The upsert of the model's row locks it until the statement ends, and
 * counts on its newest state: numbers have no gaps or doubles, and the deployment is always the
 * highest of those that ran.
 */
export async function addAdapterVersion(
  db: Db,
  input: NewAdapterVersion,
): Promise<DeployedVersion> {
  const { rows } = await db.execute<DeployedVersion & Record<string, unknown>>(sql`
    with model as (
      insert into models (id, tenant_id, name, versions)
      values (${createId('mod')}, ${input.tenantId}, ${input.modelName}, 1)
      on conflict (tenant_id, name) where removed_at is null
        do update set versions = models.versions + 1
      returning id, tenant_id, versions
    ), version as (
      ${insertVersion(input)}
    ), deployment as (
      ${placeVersion(MAIN_LANE, WHOLE_WEIGHT)}
    ), replacement as (
      insert into replacements (version_id, replaced)
      select version.id, main.version
      from version
      join deployments on deployments.model_id = version.model_id
        and lane = ${MAIN_LANE}::smallint
      join adapter_versions as main on main.id = deployments.version_id
    ), canary as (
      delete from deployments using deployment
      where deployments.model_id = deployment.model_id and lane = ${CANARY_LANE}::smallint
    )
    select version.model_id as "modelId", version.id as "versionId", version.version
    from version join deployment on deployment.model_id = version.model_id`)
  const [row] = rows
  if (!row) throw new Error('a deploy returned no row')
  return { modelId: row.modelId, versionId: row.versionId, version: row.version }
}

/**
 * Numbers the version and makes it the model's canary, in the place of one that runs. null when the
 * tenant has no such model: a canary needs a version beside it.
 */
export async function addCanaryVersion(
  db: Db,
  input: NewAdapterVersion & { readonly weight: number },
): Promise<DeployedVersion | null> {
  const { rows } = await db.execute<DeployedVersion & Record<string, unknown>>(sql`
    with model as (
      update models set versions = versions + 1
      where tenant_id = ${input.tenantId} and name = ${input.modelName} and removed_at is null
      returning id, tenant_id, versions
    ), version as (
      ${insertVersion(input)}
    ), main as (
      update deployments set id = ${createId('dep')} from version
      where deployments.model_id = version.model_id and lane = ${MAIN_LANE}::smallint
    ), canary as (
      ${placeVersion(CANARY_LANE, input.weight)}
    )
    select version.model_id as "modelId", version.id as "versionId", version.version
    from version join canary on canary.model_id = version.model_id`)
  const [row] = rows
  return row ? { modelId: row.modelId, versionId: row.versionId, version: row.version } : null
}

/** The version, numbered by the row of `model`. */
function insertVersion(input: NewAdapterVersion): SQL {
  const targetModules = sql.param([...input.targetModules], adapterVersions.targetModules)
  return sql`
    insert into adapter_versions (id, tenant_id, model_id, version, digest, base_model,
      base_digest, rank, alpha, use_rslora, target_modules, tensors, pack_bytes)
    select ${createId('ver')}, tenant_id, id, versions, ${input.digest},
      ${input.baseModel}, ${input.baseDigest}, ${input.rank}::integer,
      ${input.alpha}::double precision, ${input.useRslora}::boolean, ${targetModules}::text[],
      ${input.tensors}::integer, ${input.packBytes}::bigint
    from model
    returning id, model_id, version`
}

/** Upserts what `version` of the statement is into a lane. */
function placeVersion(lane: number, weight: number): SQL {
  return sql`
    insert into deployments (id, model_id, lane, version_id, weight)
    select ${createId('dep')}, model_id, ${lane}::smallint, id, ${weight}::integer from version
    on conflict (model_id, lane) do update set id = excluded.id,
      version_id = excluded.version_id, weight = excluded.weight, deployed_at = now()
    returning model_id`
}

/**
 * Whether the tenant has ever deployed that adapter, and so had its bytes; a removed model counts.
 */
export async function hasAdapter(
  db: Db,
  { tenantId, digest }: { readonly tenantId: string; readonly digest: string },
): Promise<boolean> {
  const rows = await db
    .select({ id: adapterVersions.id })
    .from(adapterVersions)
    .innerJoin(models, eq(models.id, adapterVersions.modelId))
    .where(and(eq(models.tenantId, tenantId), eq(adapterVersions.digest, digest)))
    .limit(1)
  return rows.length > 0
}

export interface StoredAdapters {
  /** Of packs; the same adapter in several versions counts once. */
  readonly bytes: number
  readonly versions: number
}

/** What a tenant has ever deployed: packs are kept, so removed models count. */
export async function storedAdapters(db: Db, tenantId: string): Promise<StoredAdapters> {
  const { digest, packBytes } = adapterVersions
  const each = db
    .select({
      bytes: sql<string>`max(${packBytes})`.as('bytes'),
      versions: sql<string>`count(*)`.as('versions'),
    })
    .from(adapterVersions)
    .innerJoin(models, eq(models.id, adapterVersions.modelId))
    .where(eq(models.tenantId, tenantId))
    .groupBy(digest)
    .as('each')
  const [row] = await db
    .select({
      bytes: sql<string>`coalesce(sum(${each.bytes}), 0)::text`,
      versions: sql<string>`coalesce(sum(${each.versions}), 0)::text`,
    })
    .from(each)
  return { bytes: Number(row?.bytes ?? 0), versions: Number(row?.versions ?? 0) }
}

/** Newest first. Take the id from findModel, which knows the tenant, never from a request. */
export async function listAdapterVersions(db: Db, modelId: string): Promise<AdapterVersion[]> {
  return db
    .select()
    .from(adapterVersions)
    .where(eq(adapterVersions.modelId, modelId))
    .orderBy(desc(adapterVersions.version))
}

/** Number by id; of the tenant's versions alone. */
export async function versionNumbers(
  db: Db,
  versions: { readonly tenantId: string; readonly ids: readonly string[] },
): Promise<Map<string, number>> {
  const isTheirs = eq(adapterVersions.tenantId, versions.tenantId)
  const rows = await db
    .select({ id: adapterVersions.id, version: adapterVersions.version })
    .from(adapterVersions)
    .where(and(isTheirs, inArray(adapterVersions.id, [...versions.ids])))
  return new Map(rows.map(({ id, version }) => [id, version]))
}

/** `<tenant>/<model>@<version>` by digest, of models in use. */
export async function nameAdapters(
  db: Db,
  digests: readonly string[],
): Promise<Map<string, string[]>> {
  const { digest, version } = adapterVersions
  const rows = await db
    .select({ digest, version, model: models.name, tenant: tenants.name })
    .from(adapterVersions)
    .innerJoin(models, eq(models.id, adapterVersions.modelId))
    .innerJoin(tenants, eq(tenants.id, models.tenantId))
    .where(and(inArray(digest, [...digests]), isNull(models.removedAt)))
    .orderBy(asc(tenants.name), asc(models.name), asc(version))
  const names = new Map<string, string[]>()
  for (const row of rows) {
    const name = `${row.tenant}/${row.model}@${row.version}`
    names.set(row.digest, [...(names.get(row.digest) ?? []), name])
  }
  return names
}
