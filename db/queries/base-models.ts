/** Base models that pools serve. A new one gets a price at once, so that no token is unpriced. */
import { asc, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import { type BaseModel, baseModels } from '../schema/base-models.ts'
import { DEFAULT_PRICES } from './prices.ts'

export type { BaseModel }

/**
 * Records the base model, or its new digest. In the same statement a base model that is new gets
 * version 1 of its price.
 */
export async function upsertBaseModel(
  db: Db,
  input: { name: string; digest: string },
): Promise<void> {
  const { promptPusd, cachedPromptPusd, completionPusd } = DEFAULT_PRICES
  await db.execute(sql`
    with base as (
      insert into base_models (name, digest) values (${input.name}, ${input.digest})
      on conflict (name) do update set
        digest = excluded.digest,
        updated_at = case when base_models.digest = excluded.digest
          then base_models.updated_at else now() end
      returning name
    )
    insert into prices
      (id, base_model, version, prompt_pusd, cached_prompt_pusd, completion_pusd)
    select ${createId('prc')}, base.name, 1,
      ${promptPusd}::bigint, ${cachedPromptPusd}::bigint, ${completionPusd}::bigint
    from base
    on conflict (base_model, version) do nothing`)
}

export async function listBaseModels(db: Db): Promise<BaseModel[]> {
  return db.select().from(baseModels).orderBy(asc(baseModels.name))
}
