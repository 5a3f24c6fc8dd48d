/** Who pays: owner of keys, models and ledger entries. Rows are never deleted. */
import { pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt } from './columns.ts'

export const tenants = pgTable('tenants', {
  /** `ten_…`; made by createTenant. */
  id: text('id').primaryKey(),
  /** In every endpoint's path; its unique index serves findTenant and resolveModel. */
  name: text('name').notNull().unique(),
  createdAt: createdAt(),
})

export type Tenant = typeof tenants.$inferSelect
