/**
 * Members of pools, as their last heartbeat described them. Rewritten once a second per host, so
 * the table is unlogged (no disk waits for a heartbeat; after a crash it is empty for a second),
 * has no index but the key (updates stay in place), and the long list of adapters has a column of
 * its own, which an update that finds it unchanged does not write again.
 */
import { jsonb, pgTable, text } from 'drizzle-orm/pg-core'
import type { AdapterResidency, HostReport } from '../heartbeat.ts'
import { count, time } from './columns.ts'

export const hosts = pgTable('hosts', {
  /** Chosen by the host's operator, unique in all pools. */
  id: text('id').primaryKey(),
  /** Start of the host process that reported last; a report of an older one is refused. */
  epoch: count('epoch').notNull(),
  /** The heartbeat without its adapters. */
  report: jsonb('report').$type<HostReport>().notNull(),
  adapters: jsonb('adapters').$type<readonly AdapterResidency[]>().notNull(),
  /** When an edge received the last heartbeat, by that edge's clock. */
  seenAt: time('seen_at').notNull(),
})
