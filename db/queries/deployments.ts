/**
 * Changes of which versions a model's name stands for, without a deploy: split, promotion and
 * rollback. A change is decided on what findModel said, and misses when another one came between.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { CANARY_LANE, MAIN_LANE } from './adapter-versions.ts'

export interface DeploymentChange {
  readonly modelId: string
  /** `deploymentId` of the model that the change was decided on. */
  readonly decidedOn: string
  /** Number of the version that the main lane gets, or keeps. */
  readonly main: number
  /** null = no canary runs from now on. `weight`: percent of requests, 0 to 100. */
  readonly canary: { readonly version: number; readonly weight: number } | null
  /**
   * What the new main version replaces, for a rollback from it; null = nothing to note. Kept where
   * the version has noted one before.
   */
  readonly replaces: number | null
}

/** False, having changed nothing, when the model was changed since, or has no such version. */
export async function changeDeployment(db: Db, change: DeploymentChange): Promise<boolean> {
  const { modelId, decidedOn, main, canary, replaces } = change
  const canaryVersion = canary?.version ?? null
  const { rows } = await db.execute(sql`
    with chosen as (
      select main.id as main_id, canary.id as canary_id
      from adapter_versions as main
      left join adapter_versions as canary
        on canary.model_id = main.model_id and canary.version = ${canaryVersion}::integer
      where main.model_id = ${modelId} and main.version = ${main}::integer
        and (${canaryVersion}::integer is null or canary.id is not null)
    ), changed as (
      update deployments set id = ${createId('dep')}, version_id = main_id,
        deployed_at = case when version_id = main_id then deployed_at else now() end
      from chosen
      where model_id = ${modelId} and lane = ${MAIN_LANE}::smallint and id = ${decidedOn}
      returning model_id, main_id, canary_id
    ), noted as (
      insert into replacements (version_id, replaced)
      select main_id, ${replaces}::integer from changed where ${replaces}::integer is not null
      on conflict do nothing
    ), ended as (
      delete from deployments using changed
      where deployments.model_id = changed.model_id and lane = ${CANARY_LANE}::smallint
        and canary_id is null
    ), started as (
      insert into deployments (id, model_id, lane, version_id, weight)
      select ${createId('dep')}, model_id, ${CANARY_LANE}::smallint, canary_id,
        ${canary?.weight ?? 0}::integer
      from changed where canary_id is not null
      on conflict (model_id, lane) do update set id = excluded.id, weight = excluded.weight,
        version_id = excluded.version_id,
        deployed_at = case when deployments.version_id = excluded.version_id
          then deployments.deployed_at else now() end
    )
    select model_id from changed`)
  return rows.length > 0
}
