/**
 * What the pool's operator wants of a host, beside what the host reports of itself (hosts.ts): this
 * outlives crashes of the database and restarts of the host. A host without a row serves.
 */
import { pgTable, text } from 'drizzle-orm/pg-core'
import { time } from './columns.ts'

export const hostWishes = pgTable('host_wishes', {
  /** No foreign key: a host may be gone, or not have come yet. */
  hostId: text('host_id').primaryKey(),
  wish: text('wish').$type<'serve' | 'drain'>().notNull(),
  /** NULL = a member of the pool; else it is not listed, and takes nothing should it report. */
  removedAt: time('removed_at'),
  changedAt: time('changed_at').notNull().defaultNow(),
})

export type HostWishRow = typeof hostWishes.$inferSelect
