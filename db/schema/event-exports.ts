/**
 * How far the ledger's usage was handed on to receivers outside, such as a metering service. One
 * row a receiver; whoever holds its claim may send. Written by queries/event-exports.ts alone.
 */
import { index, integer, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { bytewiseText, count, createdAt, time } from './columns.ts'

export const eventExports = pgTable('event_exports', {
  /** Names the receiver. */
  id: text('id').primaryKey(),
  /** Entries up to (`ingest_xid`, `entry_id`) were taken by the receiver, or given up. */
  ingestXid: count('ingest_xid').notNull().default(0),
  entryId: bytewiseText('entry_id').notNull().default(''),
  /** NULL = nobody is sending. */
  claimedBy: text('claimed_by'),
  /** When a claim lapses whose holder has gone; database's clock. */
  claimedUntil: time('claimed_until'),
  /** Attempts that came to nothing, in a row. */
  failures: integer('failures').notNull().default(0),
  /** Nobody sends before it; NULL = no wait. */
  retryAt: time('retry_at'),
})

/** Entries that a receiver would not take; everything behind them went on. */
export const eventDeadLetters = pgTable(
  'event_dead_letters',
  {
    exportId: text('export_id').notNull(),
    /** Of the ledger entry. */
    entryId: bytewiseText('entry_id').notNull(),
    /** What the receiver said. */
    reason: text('reason').notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    primaryKey({ columns: [table.exportId, table.entryId] }),
    // The newest first, for whoever looks what went wrong.
    index('event_dead_letters_created').on(table.exportId, table.createdAt),
  ],
)
