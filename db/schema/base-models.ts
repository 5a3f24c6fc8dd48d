/**
 * Frozen weights that pools serve. Identity is the name; the digest is what a pool last reported.
 */
import { pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt, time } from './columns.ts'

export const baseModels = pgTable('base_models', {
  name: text('name').primaryKey(),
  /** Names the bytes of the weights that the pool serves now. */
  digest: text('digest').notNull(),
  createdAt: createdAt(),
  /** When the digest was last written. */
  updatedAt: time('updated_at').notNull().defaultNow(),
})

export type BaseModel = typeof baseModels.$inferSelect
