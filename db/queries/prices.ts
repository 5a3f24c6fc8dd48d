/** Prices: immutable versions per base model. A change is addPrice; nothing is ever updated. */
import { asc, desc, eq, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { createId } from '../ids.ts'
import type { TokenPrices } from '../money.ts'
import { type Price, prices } from '../schema/prices.ts'

export type { Price }

/** Of a base model nobody has priced: 0.10, 0.05 and 0.40 USD per million tokens. */
export const DEFAULT_PRICES: TokenPrices = {
  promptPusd: 100_000n,
  cachedPromptPusd: 50_000n,
  completionPusd: 400_000n,
}

/** The newest version; null when the base model is unknown. */
export async function currentPrice(db: Db, baseModel: string): Promise<Price | null> {
  const [row] = await db
    .select()
    .from(prices)
    .where(eq(prices.baseModel, baseModel))
    .orderBy(desc(prices.version))
    .limit(1)
  return row ?? null
}

/** Every version, by base model, newest first. */
export async function listPrices(
  db: Db,
  filter: { readonly baseModel?: string | undefined } = {},
): Promise<Price[]> {
  return db
    .select()
    .from(prices)
    .where(filter.baseModel === undefined ? undefined : eq(prices.baseModel, filter.baseModel))
    .orderBy(asc(prices.baseModel), desc(prices.version))
}

/**
 * Adds the next version, current from now on; returns its id. Throws when the base model is
 * unknown, or when another price was added at the same moment.
 */
export async function addPrice(
  db: Db,
  input: TokenPrices & { readonly baseModel: string },
): Promise<string> {
  const id = createId('prc')
  await db.insert(prices).values({
    id,
    baseModel: input.baseModel,
    version: sql`(select coalesce(max(version), 0) + 1 from prices
      where base_model = ${input.baseModel})`,
    promptPusd: input.promptPusd,
    cachedPromptPusd: input.cachedPromptPusd,
    completionPusd: input.completionPusd,
  })
  return id
}
