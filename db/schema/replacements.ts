/**
 * Which version was a model's main one when another became it: where a rollback from that one goes.
 * One row a version, append-only, written when it first becomes the main one.
 */
import { integer, pgTable, text } from 'drizzle-orm/pg-core'
import { adapterVersions } from './adapter-versions.ts'
import { createdAt } from './columns.ts'

export const replacements = pgTable('replacements', {
  versionId: text('version_id')
    .primaryKey()
    .references(() => adapterVersions.id),
  /** Number of the version, of the same model, that it replaced. */
  replaced: integer('replaced').notNull(),
  createdAt: createdAt(),
})
