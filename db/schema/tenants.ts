/** Who pays: owner of keys, models and ledger entries. Rows are never deleted. */
import { sql } from 'drizzle-orm'
import { check, integer, pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt } from './columns.ts'

export const TENANT_WEIGHT_MAX = 1000

export const tenants = pgTable(
  'tenants',
  {
    /** `ten_…`; made by createTenant. */
    id: text('id').primaryKey(),
    /** In every endpoint's path; its unique index serves findTenant and resolveModel. */
    name: text('name').notNull().unique(),
    /** Share of a host that has more to do than it can, as a multiple of others'. */
    weight: integer('weight').notNull().default(1),
    createdAt: createdAt(),
  },
  (table) => [
    check(
      'tenants_weight',
      sql`${table.weight} between 1 and ${sql.raw(String(TENANT_WEIGHT_MAX))}`,
    ),
  ],
)

export type Tenant = typeof tenants.$inferSelect
