/** Who changed what, append-only. Requests for tokens are usage events, not audit entries. */
import { index, jsonb, pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt } from './columns.ts'

export const auditLog = pgTable(
  'audit_log',
  {
    /** `aud_…` */
    id: text('id').primaryKey(),
    /** Whose things were changed; NULL = the pool's own. No foreign key: the log outlives all. */
    tenantId: text('tenant_id'),
    /** The API key that acted, `key_…`, or `operator`. */
    actor: text('actor').notNull(),
    /** Stable snake_case word, such as `api_key_revoked`. */
    action: text('action').notNull(),
    /** Id or name of what was changed. */
    subject: text('subject').notNull(),
    /** Facts worth keeping; never a secret. */
    detail: jsonb('detail').$type<Readonly<Record<string, unknown>>>().notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    // listAuditEntries: a tenant's changes, newest first.
    index('audit_log_tenant').on(table.tenantId, table.createdAt),
  ],
)

export type AuditEntry = typeof auditLog.$inferSelect
