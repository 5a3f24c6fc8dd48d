/**
 * A tenant's name for a fine-tuned model. Removal is a mark: the name is free again, versions and
 * usage stay. `versions` counts up under the row's lock, which is what numbers adapter versions.
 */
import { sql } from 'drizzle-orm'
import { integer, pgTable, text, uniqueIndex } from 'drizzle-orm/pg-core'
import { createdAt, time } from './columns.ts'
import { tenants } from './tenants.ts'

export const models = pgTable(
  'models',
  {
    /** `mod_…`; survives in usage events after the name was given to another model. */
    id: text('id').primaryKey(),
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.id),
    name: text('name').notNull(),
    /** The number of the newest adapter version. Written by addAdapterVersion alone. */
    versions: integer('versions').notNull(),
    createdAt: createdAt(),
    /** NULL = in use. Written once, by removeModel. */
    removedAt: time('removed_at'),
  },
  (table) => [
    // resolveModel, findModel, listModels, and the conflict target of addAdapterVersion: one model
    // in use per name and tenant.
    uniqueIndex('models_tenant_name').on(table.tenantId, table.name).where(sql`removed_at is null`),
  ],
)

export type Model = typeof models.$inferSelect
