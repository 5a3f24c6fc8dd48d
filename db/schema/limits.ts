/**
 * What a tenant, or one API key of it, may do at most. A row a scope; no row, or NULL in a column,
 * is no limit. A key's limits hold beside its tenant's, never instead of them.
 */
import { index, pgTable, text } from 'drizzle-orm/pg-core'
import { count, pusd, time } from './columns.ts'
import { tenants } from './tenants.ts'

export const limits = pgTable(
  'limits',
  {
    /** Id of the tenant or of the key; the prefix tells which. */
    scopeId: text('scope_id').primaryKey(),
    /** The tenant itself, or the key's. */
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.id),
    /** In any 60 seconds. NULL = any number; 0 = none. */
    requestsPerMinute: count('requests_per_minute'),
    /** Prompt and completion, in any 60 seconds. NULL = any number. */
    tokensPerMinute: count('tokens_per_minute'),
    /** Requests at once. NULL = any number. */
    concurrency: count('concurrency'),
    /** Cap on the charges of one month in UTC. NULL = none. */
    monthlySpendPusd: pusd('monthly_spend_pusd'),
    updatedAt: time('updated_at').notNull().defaultNow(),
  },
  (table) => [
    // listLimits: what was set for a tenant and its keys.
    index('limits_tenant').on(table.tenantId),
  ],
)

export type LimitRow = typeof limits.$inferSelect
