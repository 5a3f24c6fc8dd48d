/** What the operator's pages show of the pool: adapters, latencies, savings. */
import { z } from 'zod'
import { latencyPeriod } from '../../routes/pool-latency.ts'
import { savingsQuery } from '../../routes/pool-savings.ts'
import { count, type Operation, ok, pusd, time } from '../operation.ts'

const tier = z.enum(['slot', 'ram', 'disk'])
const adapters = z.strictObject({
  hosts: z.array(z.strictObject({ host_id: z.string(), host_name: z.string() })),
  adapters_total: count,
  data: z.array(
    z.strictObject({
      digest: z.string(),
      models: z.array(z.string()).describe('`<tenant>/<model>@<version>` of these bytes.'),
      hosts: z.array(z.strictObject({ host_id: z.string(), tier, sequences: count })),
    }),
  ),
})

const latency = z.strictObject({
  start: time,
  end: time,
  bounds_us: z.array(count).describe('Upper bounds of `counts`, whose last has none.'),
  data: z.array(
    z.strictObject({
      kind: z.string(),
      adapter_source: z.string(),
      counts: z.array(count),
    }),
  ),
})

const percent = z.number().nullable()
const costs = {
  requests: count,
  pool_pusd: pusd,
  dedicated_pusd: pusd,
  scale_to_zero_pusd: pusd,
  saved_percent_vs_dedicated: percent,
  saved_percent_vs_scale_to_zero: percent,
}
const savings = z.strictObject({
  start: time,
  end: time,
  hosts: count,
  gpu_usd_per_hour: z.string(),
  storage_usd_per_gib_month: z.string(),
  cold_start_s: z.number(),
  keep_warm_s: z.number(),
  totals: z.strictObject(costs),
  data: z.array(z.strictObject({ tenant: z.string(), model: z.string(), ...costs })),
})

const report = { group: 'Pool', caller: 'operator', method: 'get' } as const

export const POOL_REPORT_OPERATIONS: readonly Operation[] = [
  {
    ...report,
    path: '/v1/pool/adapters',
    id: 'listPoolAdapters',
    summary: 'Which hosts hold which adapters, in which tier',
    replies: { 200: ok('The most used ones.', adapters) },
  },
  {
    ...report,
    path: '/v1/pool/latency',
    id: 'showPoolLatency',
    summary: 'First tokens and swaps of a period, as histograms',
    query: latencyPeriod,
    replies: { 200: ok('Histograms.', latency) },
  },
  {
    ...report,
    path: '/v1/pool/savings',
    id: 'showPoolSavings',
    summary: 'What the pool spared against a machine per model',
    query: savingsQuery,
    replies: { 200: ok('Costs of each way.', savings) },
  },
]
