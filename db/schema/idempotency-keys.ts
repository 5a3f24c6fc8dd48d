/**
 * Requests that came with an `Idempotency-Key`: which request it stands for, and the reply for
 * whoever sends it again. Rows live for a day.
 */
import { index, integer, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { createdAt, time } from './columns.ts'

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    tenantId: text('tenant_id').notNull(),
    /** API key, since two of a tenant's keys may have different users. '' = the operator's. */
    keyId: text('key_id').notNull(),
    /** As the client sent it. */
    idempotencyKey: text('idempotency_key').notNull(),
    /** SHA-256 of path and body, hex: the same key stands for the same request only. */
    bodyHash: text('body_hash').notNull(),
    /** Id of the request, whichever try answers it. */
    requestId: text('request_id').notNull(),
    /** Tries so far, each of its own edge. */
    tries: integer('tries').notNull().default(1),
    state: text('state').$type<IdempotencyState>().notNull(),
    /** Only in `running`: from then on the edge that answers it is taken for dead. */
    lockedUntil: time('locked_until').notNull(),
    /** Only in `done`. NULL = too large to keep. */
    replyBody: text('reply_body'),
    /** Only in `done`. */
    replyType: text('reply_type'),
    createdAt: createdAt(),
    /** From then on the key is free. */
    expiresAt: time('expires_at').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.tenantId, table.keyId, table.idempotencyKey] }),
    // deleteOldIdempotencyKeys.
    index('idempotency_keys_expires').on(table.expiresAt),
  ],
)

/**
 * `running`: an edge answers it. `open`: nothing of it reached the client, so the next try may
 * answer it. `done`: answered in whole. `cut`: the client got a part of the answer.
 */
export type IdempotencyState = 'running' | 'open' | 'done' | 'cut'
