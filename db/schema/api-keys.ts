/**
 * Credentials of tenants. The secret is never here: only a keyed hash of the whole key. A revoked
 * key stays, so that its name is still known where its usage is listed.
 */
import { index, pgTable, text } from 'drizzle-orm/pg-core'
import { createdAt, time } from './columns.ts'
import { tenants } from './tenants.ts'

export const apiKeys = pgTable(
  'api_keys',
  {
    /** `key_<id>`, the public part of the key. */
    id: text('id').primaryKey(),
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.id),
    /** HMAC-SHA256 of the whole key under a pepper that the database never sees; hex. */
    keyHash: text('key_hash').notNull(),
    /** First characters of the key, to recognise it by. */
    start: text('start').notNull(),
    /** NULL = its owner gave it none. */
    name: text('name'),
    /** What it may do, such as `generate`, `deploy`. The edge knows the words. */
    scopes: text('scopes').array().notNull(),
    createdAt: createdAt(),
    /** NULL = valid. Written once, by revokeApiKey. */
    revokedAt: time('revoked_at'),
  },
  (table) => [
    // findApiKeyByHash, on the hot path.
    index('api_keys_hash').on(table.keyHash),
    // listApiKeys: the keys of one tenant, oldest first.
    index('api_keys_tenant').on(table.tenantId, table.createdAt),
  ],
)

export type ApiKey = typeof apiKeys.$inferSelect
