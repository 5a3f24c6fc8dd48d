/** A tenant's models: deploys through the edge or straight to the store, versions, canaries. */
import { z } from 'zod'
import { adapterReceipt, uploadPlan } from '#protocol'
import { deployOptions, rollbackBody, splitBody } from '../../routes/deployments.ts'
import { deployWish } from '../../routes/models.ts'
import { completeBody, planBody } from '../../routes/uploads.ts'
import { count, listOf, type Operation, ok, time } from '../operation.ts'

const MODELS = '/v1/tenants/:tenant/models'
const MODEL = `${MODELS}/:model`

const percent = z.int().min(0).max(100)
const lane = z.strictObject({ version: z.int(), weight: percent })
const adapter = {
  digest: z.string(),
  base_model: z.string(),
  rank: z.int(),
  alpha: z.number(),
  use_rslora: z.boolean(),
  target_modules: z.array(z.string()),
  pack_bytes: count,
}
const model = z.strictObject({
  name: z.string(),
  version: z.int().describe('The main one.'),
  ...adapter,
  created_at: time,
  deployed_at: time,
  versions: count.describe('How many there are; they are numbered without gaps.'),
  endpoint: z.string().describe('OpenAI base URL of this model.'),
  replaced_version: z.int().nullable().describe('Where a rollback goes.'),
  canary: z
    .strictObject({ version: z.int(), digest: z.string(), weight: percent, deployed_at: time })
    .nullable(),
})
const version = z.strictObject({ version: z.int(), ...adapter, created_at: time })
const shownModel = model.extend({ history: z.array(version) })

const { base_digest: _, existed: __, ...receipt } = adapterReceipt.shape
const deployed = z.strictObject({
  model: z.string(),
  ...receipt,
  endpoint: z.string(),
  version: z.int(),
  unchanged: z.boolean().describe('These bytes served already.'),
  canary: percent.nullable(),
  ended_canary: lane.nullable(),
})
const lanes = z.strictObject({
  name: z.string(),
  main: z.int(),
  canary: lane.nullable(),
  dry_run: z.boolean(),
})

const deployQuery = deployWish.extend({
  base_model: z.string().optional().describe("Default: the pool's."),
})
const adapterFiles = z.object({
  config: z.string().meta({ format: 'binary' }).describe('adapter_config.json'),
  weights: z.string().meta({ format: 'binary' }).describe('adapter_model.safetensors'),
})
const deployReplies = {
  200: ok('These bytes serve already.', deployed),
  201: ok('The new version.', deployed),
}
const models = { group: 'Models', caller: 'deploy' } as const
const laneReplies = { 200: ok('The versions that serve then.', lanes) }

export const MODEL_OPERATIONS: readonly Operation[] = [
  {
    ...models,
    method: 'post',
    path: `${MODEL}/versions`,
    id: 'deployVersion',
    summary: 'Deploy a PEFT adapter, through the edge',
    query: deployQuery,
    body: { schema: adapterFiles, mediaType: 'multipart/form-data' },
    replies: deployReplies,
  },
  {
    ...models,
    method: 'post',
    path: `${MODEL}/uploads`,
    id: 'planUpload',
    summary: 'Where an adapter’s files go, part by part',
    query: deployQuery,
    body: { schema: planBody },
    replies: { 200: ok('What is still to be sent, and where.', uploadPlan) },
  },
  {
    ...models,
    method: 'post',
    path: `${MODEL}/uploads/complete`,
    id: 'completeUpload',
    summary: 'Deploy the files that were sent',
    query: deployQuery,
    body: { schema: completeBody },
    replies: deployReplies,
  },
  {
    ...models,
    method: 'get',
    path: MODELS,
    id: 'listModels',
    summary: 'A tenant’s models',
    replies: { 200: ok('Models.', listOf(model)) },
  },
  {
    ...models,
    method: 'get',
    path: MODEL,
    id: 'showModel',
    summary: 'One model, with its versions',
    replies: { 200: ok('The model.', shownModel) },
  },
  {
    ...models,
    method: 'delete',
    path: MODEL,
    id: 'removeModel',
    summary: 'Remove a model',
    replies: {
      200: ok('It is gone.', z.strictObject({ name: z.string(), deleted: z.literal(true) })),
    },
  },
  {
    ...models,
    method: 'patch',
    path: `${MODEL}/deployment`,
    id: 'splitModel',
    summary: 'Share the requests between two versions',
    query: deployOptions,
    body: { schema: splitBody },
    replies: laneReplies,
  },
  {
    ...models,
    method: 'post',
    path: `${MODEL}/promote`,
    id: 'promoteCanary',
    summary: 'Make the canary the main version',
    query: deployOptions,
    replies: laneReplies,
  },
  {
    ...models,
    method: 'post',
    path: `${MODEL}/rollback`,
    id: 'rollBackModel',
    summary: 'Go back to an earlier version',
    query: deployOptions,
    body: { schema: rollbackBody },
    replies: laneReplies,
  },
]
