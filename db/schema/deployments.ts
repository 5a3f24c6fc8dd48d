/**
 * Which version a model's name stands for. Lane 0 is the main one and always has a row; a canary
 * will be lane 1, with a weight of its own. One row a lane: a deploy replaces it in place, so that
 * two deploys at once cannot both be current.
 */
import { integer, pgTable, smallint, text, unique } from 'drizzle-orm/pg-core'
import { adapterVersions } from './adapter-versions.ts'
import { time } from './columns.ts'
import { models } from './models.ts'

export const deployments = pgTable(
  'deployments',
  {
    /** `dep_…`; a new one each time that the lane changes. */
    id: text('id').primaryKey(),
    modelId: text('model_id')
      .notNull()
      .references(() => models.id),
    lane: smallint('lane').notNull(),
    versionId: text('version_id')
      .notNull()
      .references(() => adapterVersions.id),
    /** Share of requests, in parts of the sum over the model's lanes. */
    weight: integer('weight').notNull(),
    deployedAt: time('deployed_at').notNull().defaultNow(),
  },
  (table) => [
    // resolveModel and listModels: the version of a model's main lane; conflict target of a deploy.
    unique('deployments_model_lane').on(table.modelId, table.lane),
  ],
)

export type Deployment = typeof deployments.$inferSelect
