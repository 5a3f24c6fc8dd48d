/**
 * Which versions a model's name stands for. Lane 0 is the main one and always has a row; lane 1 is
 * a canary, there while one runs. One row a lane: a deploy replaces it in place, so that two
 * deploys at once cannot both be current.
 */
import { integer, pgTable, smallint, text, unique } from 'drizzle-orm/pg-core'
import { adapterVersions } from './adapter-versions.ts'
import { time } from './columns.ts'
import { models } from './models.ts'

export const deployments = pgTable(
  'deployments',
  {
    /**
     * `dep_…`. The main lane's is new after each change of either lane: a change names the one that
     * it was decided on, and misses when there is another by then.
     */
    id: text('id').primaryKey(),
    modelId: text('model_id')
      .notNull()
      .references(() => models.id),
    lane: smallint('lane').notNull(),
    versionId: text('version_id')
      .notNull()
      .references(() => adapterVersions.id),
    /** Percent of requests that a canary gets. The main lane's is 100: what the canary leaves. */
    weight: integer('weight').notNull(),
    /** When the lane got this version. */
    deployedAt: time('deployed_at').notNull().defaultNow(),
  },
  (table) => [
    // resolveModel and listModels: the versions of a model's lanes; conflict target of a deploy.
    unique('deployments_model_lane').on(table.modelId, table.lane),
  ],
)

export type Deployment = typeof deployments.$inferSelect
