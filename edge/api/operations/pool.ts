/** The pool, for its operator and its hosts: hosts, prices, books, health. */
import { z } from 'zod'
import {
  EDGE_ROUTES,
  heartbeat,
  heartbeatReceipt,
  hostWish,
  usageBatch,
  usageBatchReceipt,
  usageEvent,
} from '#protocol'
import { booksPage, booksPeriod } from '../../routes/books.ts'
import { dropQuery } from '../../routes/hosts.ts'
import { modelUsePage } from '../../routes/model-use.ts'
import { priceBody, priceQuery } from '../../routes/prices.ts'
import { count, listOf, type Operation, ok, pusd, time } from '../operation.ts'

const HOST = '/v1/hosts/:host'
const BOOKS = '/v1/pool/books'

const { adapters, stored_ago_ms: _, ...reported } = heartbeat.shape
const state = { host_id: z.string(), wish: hostWish, last_seen_at: time.nullable() }
const reportedHost = z.strictObject({
  ...reported,
  ...state,
  status: z.enum(['ready', 'draining', 'silent']),
  adapters: z.strictObject({ slot: count, ram: count, disk: count }).describe('How many, by tier.'),
  residency: adapters.describe('The first of them.'),
})
const goneHost = z.strictObject({ ...state, status: z.literal('gone') })
const host = z.union([reportedHost, goneHost])
const removedHost = z.strictObject({ host_id: z.string(), removed: z.literal(true) })

const price = z.strictObject({
  id: z.string(),
  base_model: z.string(),
  version: z.int(),
  prompt_pusd: pusd,
  cached_prompt_pusd: pusd,
  completion_pusd: pusd,
  created_at: time,
})

const modelUse = z.strictObject({
  start: time,
  end: time,
  hosts_seen: count,
  data: z.array(
    z.strictObject({
      tenant: z.string(),
      model: z.string(),
      base_model: z.string(),
      requests: count,
      gpu_us: count,
      swap_us: count,
      stored_bytes: count,
      exists_from: time,
      exists_to: time,
      first_at: time,
      runs: z
        .array(z.tuple([z.int(), z.int(), count]))
        .describe('Start, end (Unix milliseconds) and requests.'),
    }),
  ),
  next: z.string().nullable(),
})

const difference = z.strictObject({
  kind: z.string(),
  tenant_id: z.string().nullable(),
  subject: z.string(),
  field: z.string().nullable(),
  books: z.record(z.string(), z.string().nullable()),
})
const bookedEvent = z.strictObject({
  event: usageEvent.strict(),
  occurred_at: time,
  charged_pusd: pusd.nullable(),
  price_id: z.string().nullable(),
  is_reversed: z.boolean(),
})
const total = z.strictObject({
  tenant_id: z.string().nullable(),
  requests: count,
  prompt_tokens: count,
  cached_prompt_tokens: count,
  completion_tokens: count,
  gpu_us: count,
  swap_us: count,
  cost_pusd: pusd,
})
const lag = z.strictObject({
  rollup_s: z.number().nullable().describe('Of the oldest charge in no roll-up; null = none.'),
  usage_s: z.number().nullable().describe('Until usage is stored; null = there was none.'),
  dead_letters: count,
})
const health = z.strictObject({
  status: z.enum(['ok', 'degraded']),
  base_model: z.string(),
  hosts_ready: count,
  database_away_s: count.optional(),
})

const pool = { group: 'Pool', caller: 'operator' } as const
const hostReply = { 200: ok('The host.', host) }

export const POOL_OPERATIONS: readonly Operation[] = [
  {
    ...pool,
    method: 'get',
    path: '/v1/hosts',
    id: 'listHosts',
    summary: 'The hosts of the pool',
    replies: { 200: ok('Hosts.', listOf(host)) },
  },
  { ...pool, method: 'get', path: HOST, id: 'showHost', summary: 'One host', replies: hostReply },
  {
    ...pool,
    method: 'post',
    path: `${HOST}/drain`,
    id: 'drainHost',
    summary: 'Let a host finish and take nothing new',
    replies: hostReply,
  },
  {
    ...pool,
    method: 'post',
    path: `${HOST}/resume`,
    id: 'resumeHost',
    summary: 'Let a host serve again',
    replies: hostReply,
  },
  {
    ...pool,
    method: 'delete',
    path: HOST,
    id: 'removeHost',
    summary: 'Remove a host that is drained or gone',
    query: dropQuery,
    replies: {
      200: ok('It is removed, or with dry_run as it stays.', z.union([removedHost, host])),
    },
  },
  {
    ...pool,
    method: 'get',
    path: '/v1/prices',
    id: 'listPrices',
    summary: 'Prices per token, with their versions',
    query: priceQuery,
    replies: { 200: ok('Prices.', listOf(price)) },
  },
  {
    ...pool,
    method: 'post',
    path: '/v1/prices',
    id: 'setPrice',
    summary: 'Set a base model’s price from now on',
    body: { schema: priceBody },
    replies: { 201: ok('The new version.', price) },
  },
  {
    ...pool,
    method: 'get',
    path: '/v1/pool/model-use',
    id: 'showModelUse',
    summary: 'What each model took of the pool, and when',
    query: modelUsePage,
    replies: { 200: ok('A page of models.', modelUse) },
  },
  {
    ...pool,
    method: 'get',
    path: `${BOOKS}/differences`,
    id: 'listBookDifferences',
    summary: 'Where the books disagree',
    query: booksPeriod,
    replies: { 200: ok('Differences; none is well.', listOf(difference)) },
  },
  {
    ...pool,
    method: 'get',
    path: `${BOOKS}/events`,
    id: 'listBookedEvents',
    summary: 'Every event with its charge',
    query: booksPage,
    replies: { 200: ok('A page.', listOf(bookedEvent).extend({ next: z.string().nullable() })) },
  },
  {
    ...pool,
    method: 'get',
    path: `${BOOKS}/totals`,
    id: 'showBookTotals',
    summary: 'What usage sums to, by tenant',
    query: booksPeriod,
    replies: { 200: ok('Sums.', listOf(total)) },
  },
  {
    ...pool,
    method: 'get',
    path: `${BOOKS}/lag`,
    id: 'showBookLag',
    summary: 'How far the books are behind',
    replies: { 200: ok('In seconds.', lag) },
  },
  {
    group: 'Pool',
    method: 'get',
    path: '/healthz',
    id: 'showHealth',
    summary: 'Whether this edge serves',
    caller: 'anyone',
    replies: { 200: ok('It does.', health) },
  },
  {
    group: 'Pool',
    method: 'get',
    path: '/metrics',
    id: 'showMetrics',
    summary: 'Metrics of this edge, as Prometheus reads them',
    caller: 'anyone',
    replies: { 200: { what: 'Metrics.', schema: null, mediaType: 'text/plain' } },
  },
  {
    group: 'Internal',
    method: 'post',
    path: EDGE_ROUTES.heartbeat,
    id: 'takeHeartbeat',
    summary: 'What a host says of itself',
    caller: 'host',
    body: { schema: heartbeat },
    replies: { 200: ok('Taken.', heartbeatReceipt.strict()) },
  },
  {
    group: 'Internal',
    method: 'post',
    path: EDGE_ROUTES.usage,
    id: 'takeUsage',
    summary: 'Usage events of a host',
    caller: 'host',
    body: { schema: usageBatch },
    replies: { 200: ok('All of them are stored.', usageBatchReceipt.strict()) },
  },
]
