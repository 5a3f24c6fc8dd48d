/** Usage in our shape and in that of OpenAI's organization API; invoices. */
import { z } from 'zod'
import { EXPORT_FORMATS } from '../../billing/export.ts'
import { reportParameters } from '../../openai/organization-query.ts'
import { createBody, exportQuery, finalizeBody } from '../../routes/invoices.ts'
import { usageFeed, usagePage, usagePeriod } from '../../routes/usage.ts'
import { count, listOf, type Operation, ok, pusd, time, wholeText } from '../operation.ts'

const TENANT = '/v1/tenants/:tenant'
const INVOICE = `${TENANT}/invoices/:invoice`

const sums = {
  requests: count,
  prompt_tokens: count,
  cached_prompt_tokens: count,
  completion_tokens: count,
  gpu_us: count,
  cost_pusd: pusd,
}
const usage = z.strictObject({
  start: time,
  end: time,
  data: z.array(
    z.strictObject({
      model: z.string(),
      version: z.int().nullable().optional().describe('With by=version; null = no adapter.'),
      ...sums,
    }),
  ),
  totals: z.strictObject(sums),
})
const usageEvent = z.strictObject({
  request_id: z.string(),
  attempt: z.int(),
  superseded: z.boolean().describe('A later attempt is the one that is charged.'),
  key_id: z.string().nullable(),
  model: z.string(),
  adapter_digest: z.string().nullable(),
  base_model: z.string(),
  prompt_tokens: count,
  cached_prompt_tokens: count,
  completion_tokens: count,
  finish_reason: z.string(),
  adapter_source: z.string(),
  gpu_us: count,
  queue_us: count,
  ttft_us: count.nullable(),
  swap_us: count,
  host_id: z.string(),
  source: z.string(),
  started_at: time,
  ended_at: time,
  billed_at: time,
  cost_pusd: pusd,
  price_version_id: z.string().nullable(),
  price_basis: z.string().nullable(),
})

const page = (result: z.ZodType) =>
  z.strictObject({
    object: z.literal('page'),
    data: z.array(
      z.strictObject({
        object: z.literal('bucket'),
        start_time: count,
        end_time: count,
        results: z.array(result),
      }),
    ),
    has_more: z.boolean(),
    next_page: z.string().nullable(),
  })
const usageResult = z.strictObject({
  object: z.literal('organization.usage.completions.result'),
  input_tokens: count,
  input_cached_tokens: count,
  input_uncached_tokens: count,
  input_text_tokens: count,
  input_cached_text_tokens: count,
  input_audio_tokens: count,
  output_tokens: count,
  output_text_tokens: count,
  output_audio_tokens: count,
  num_model_requests: count,
  project_id: z.string().nullable(),
  user_id: z.null(),
  api_key_id: z.string().nullable(),
  model: z.string().nullable(),
  batch: z.null(),
  service_tier: z.null(),
})
const costResult = z.strictObject({
  object: z.literal('organization.costs.result'),
  amount: z.strictObject({ value: z.number(), currency: z.literal('usd'), x_pusd: pusd }),
  line_item: z.string().nullable(),
  quantity: count.nullable(),
  quantity_unit: z.literal('tokens').nullable(),
  project_id: z.string().nullable(),
  api_key_id: z.string().nullable(),
  user_id: z.null(),
})

const utcSeconds = z.string().describe('UTC, whole seconds.')
const usd = z.string().describe('US dollars.')
const summary = z.strictObject({
  id: z.string(),
  number: z.int().nullable().describe('null = a draft.'),
  status: z.enum(['draft', 'final']),
  tenant: z.strictObject({ id: z.string(), name: z.string() }),
  period: z.string().describe('Such as 2026-11.'),
  period_start: utcSeconds,
  period_end: utcSeconds,
  currency: z.string(),
  created_at: time,
  finalized_at: time.nullable(),
  billed_usd: usd.nullable().describe('null = a draft: it changes until it is final.'),
})
const invoice = summary.extend({
  issuer: z.string(),
  as_of: time,
  billed_usd: usd,
  exact_pusd: pusd,
  requests: wholeText,
  lines: z.array(
    z.strictObject({
      line: z.int(),
      model: z.string(),
      model_id: z.string().nullable(),
      base_model: z.string(),
      kind: z.string(),
      usage_period: z.string(),
      is_correction: z.boolean(),
      price_version_id: z.string().nullable().describe('null = nobody had priced it.'),
      quantity: wholeText,
      unit_price_pusd: pusd,
      exact_pusd: pusd,
      billed_usd: usd,
    }),
  ),
  notes: z.strictObject({ unpriced_requests: wholeText, recovered_requests: wholeText }),
})

export const BILLING_OPERATIONS: readonly Operation[] = [
  {
    group: 'Usage',
    method: 'get',
    path: `${TENANT}/usage`,
    id: 'showUsage',
    summary: 'What a tenant used, by model or version',
    description: 'Without a period, the current month in UTC so far.',
    caller: 'deploy',
    query: usagePeriod,
    replies: { 200: ok('Usage and cost.', usage) },
  },
  {
    group: 'Usage',
    method: 'get',
    path: `${TENANT}/usage/events`,
    id: 'listUsageEvents',
    summary: 'Request by request, newest first',
    caller: 'deploy',
    query: usagePage,
    replies: { 200: ok('A page.', listOf(usageEvent).extend({ next: z.string().nullable() })) },
  },
  {
    group: 'Usage',
    method: 'get',
    path: `${TENANT}/usage/feed`,
    id: 'followUsage',
    summary: 'Request by request, as they are stored',
    description: 'Without `after`, none yet and where to begin.',
    caller: 'deploy',
    query: usageFeed,
    replies: { 200: ok('What came since.', listOf(usageEvent).extend({ next: z.string() })) },
  },
  {
    group: 'Usage',
    method: 'get',
    path: '/v1/organization/usage/completions',
    id: 'showOrganizationUsage',
    summary: 'Usage in the shape of OpenAI’s organization API',
    caller: 'deploy',
    query: reportParameters('usage'),
    replies: { 200: ok('A page of buckets.', page(usageResult)) },
  },
  {
    group: 'Usage',
    method: 'get',
    path: '/v1/organization/costs',
    id: 'showOrganizationCosts',
    summary: 'Costs in the shape of OpenAI’s organization API',
    caller: 'deploy',
    query: reportParameters('costs'),
    replies: { 200: ok('A page of buckets.', page(costResult)) },
  },
  {
    group: 'Invoices',
    method: 'post',
    path: `${TENANT}/invoices`,
    id: 'createInvoice',
    summary: 'Make a month’s invoice',
    caller: 'operator',
    body: { schema: createBody },
    replies: {
      200: ok('The one that the month has already.', invoice),
      201: ok('A new draft.', invoice),
    },
  },
  {
    group: 'Invoices',
    method: 'get',
    path: `${TENANT}/invoices`,
    id: 'listInvoices',
    summary: 'A tenant’s invoices',
    caller: 'deploy',
    replies: { 200: ok('Invoices, without lines.', listOf(summary)) },
  },
  {
    group: 'Invoices',
    method: 'get',
    path: INVOICE,
    id: 'showInvoice',
    summary: 'One invoice, with its lines',
    caller: 'deploy',
    replies: { 200: ok('The invoice.', invoice) },
  },
  {
    group: 'Invoices',
    method: 'post',
    path: `${INVOICE}/finalize`,
    id: 'finalizeInvoice',
    summary: 'Fix an invoice for good',
    caller: 'operator',
    body: { schema: finalizeBody, isOptional: true },
    replies: { 200: ok('The final invoice.', invoice) },
  },
  {
    group: 'Invoices',
    method: 'get',
    path: `${INVOICE}/export`,
    id: 'exportInvoice',
    summary: `An invoice as a file: ${EXPORT_FORMATS.join(', ')}`,
    caller: 'deploy',
    query: exportQuery,
    replies: {
      200: {
        what: 'The file; `x-nozzle-manifest` is its manifest.',
        schema: null,
        mediaType: '*/*',
      },
    },
  },
]
