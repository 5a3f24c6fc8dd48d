/** Immutable versions of a model's adapter. Identity of the bytes is the digest. */
import { boolean, doublePrecision, integer, pgTable, text, unique } from 'drizzle-orm/pg-core'
import { count, createdAt } from './columns.ts'
import { models } from './models.ts'
import { tenants } from './tenants.ts'

export const adapterVersions = pgTable(
  'adapter_versions',
  {
    /** `ver_…` */
    id: text('id').primaryKey(),
    /** The model's owner, again: every read can filter by it without a join. */
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.id),
    modelId: text('model_id')
      .notNull()
      .references(() => models.id),
    /** 1, 2, 3 … per model, without gaps. */
    version: integer('version').notNull(),
    /** `sha256:…`; two tenants that upload the same bytes share it, never a row. */
    digest: text('digest').notNull(),
    /** By name, without a foreign key: a pool may report its base model after the first deploy. */
    baseModel: text('base_model').notNull(),
    baseDigest: text('base_digest').notNull(),
    rank: integer('rank').notNull(),
    alpha: doublePrecision('alpha').notNull(),
    useRslora: boolean('use_rslora').notNull(),
    targetModules: text('target_modules').array().notNull(),
    tensors: integer('tensors').notNull(),
    packBytes: count('pack_bytes').notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    // resolveModel with a version, listAdapterVersions; one row a number.
    unique('adapter_versions_model_version').on(table.modelId, table.version),
  ],
)

export type AdapterVersion = typeof adapterVersions.$inferSelect
