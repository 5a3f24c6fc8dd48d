/**
 * What a token costs: immutable, numbered versions per base model. The highest number is current.
 * A change of price is a new row; what was sold at the old one stays provable.
 */
import { integer, pgTable, text, unique } from 'drizzle-orm/pg-core'
import { baseModels } from './base-models.ts'
import { createdAt, pusdPerToken } from './columns.ts'

export const prices = pgTable(
  'prices',
  {
    /** `prc_…`; a usage event names it as `price_version_id`. */
    id: text('id').primaryKey(),
    baseModel: text('base_model')
      .notNull()
      .references(() => baseModels.name),
    /** 1, 2, 3 … per base model. */
    version: integer('version').notNull(),
    /** Pico-USD for a prompt token that had to be computed. */
    promptPusd: pusdPerToken('prompt_pusd').notNull(),
    /** Pico-USD for a prompt token found in the prefix cache. */
    cachedPromptPusd: pusdPerToken('cached_prompt_pusd').notNull(),
    /** Pico-USD for a generated token. */
    completionPusd: pusdPerToken('completion_pusd').notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    // currentPrice and the ledger's pricing: the highest version of a base model; one row a number.
    unique('prices_base_model_version').on(table.baseModel, table.version),
  ],
)

export type Price = typeof prices.$inferSelect
