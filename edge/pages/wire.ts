/** What pages read of the API's replies; the API may say more. */
import { z } from 'zod'

const count = z.int().min(0)
/** Integer pico-USD as text. */
const pusd = z
  .string()
  .regex(/^-?\d+$/)
  .transform(BigInt)
const time = z.string().transform((text) => new Date(text))

export const errorReply = z.object({
  error: z.object({ message: z.string(), code: z.string(), param: z.string().nullable() }),
})

export const viewer = z.object({
  /** null = the operator. */
  tenant: z.object({ id: z.string(), name: z.string() }).nullable(),
  /** null = all. */
  scopes: z.array(z.string()).nullable(),
})
export type Viewer = z.infer<typeof viewer>

const model = z.object({
  name: z.string(),
  version: z.int(),
  versions: count,
  base_model: z.string(),
  rank: z.int(),
  endpoint: z.string(),
  deployed_at: time,
  replaced_version: z.int().nullable(),
  canary: z.object({ version: z.int(), weight: z.int() }).nullable(),
})
export type ModelView = z.infer<typeof model>
export const modelList = z.object({ data: z.array(model) })
export const modelDetail = model.extend({
  history: z.array(
    z.object({
      version: z.int(),
      digest: z.string(),
      rank: z.int(),
      alpha: z.number(),
      target_modules: z.array(z.string()),
      pack_bytes: count,
      created_at: time,
    }),
  ),
})
export type ModelDetail = z.infer<typeof modelDetail>
/** The models that a key without the scope `deploy` may name. */
export const openaiModels = z.object({ data: z.array(z.object({ id: z.string() })) })

const usageSums = z.object({
  requests: count,
  prompt_tokens: count,
  cached_prompt_tokens: count,
  completion_tokens: count,
  cost_pusd: pusd,
})
export const usageReport = z.object({
  start: time,
  end: time,
  data: z.array(usageSums.extend({ model: z.string() })),
  totals: usageSums,
})

const bucket = <T extends z.ZodType>(result: T) =>
  z.object({ data: z.array(z.object({ start_time: z.int(), results: z.array(result) })) })
export const usageBuckets = bucket(
  z.object({ input_tokens: count, output_tokens: count, num_model_requests: count }),
)
export const costBuckets = bucket(z.object({ amount: z.object({ x_pusd: pusd }) }))

const invoice = z.object({
  id: z.string(),
  number: z.string().nullable(),
  status: z.string(),
  period: z.string(),
  billed_usd: z.string().nullable(),
  finalized_at: time.nullable(),
})
export const invoiceList = z.object({ data: z.array(invoice) })
export const invoiceDetail = invoice.extend({
  issuer: z.string(),
  as_of: time,
  requests: z.string(),
  lines: z.array(
    z.object({
      line: z.int(),
      model: z.string(),
      kind: z.string(),
      usage_period: z.string(),
      is_correction: z.boolean(),
      quantity: z.string(),
      unit_price_pusd: pusd,
      billed_usd: z.string(),
    }),
  ),
  notes: z.object({ unpriced_requests: z.string(), recovered_requests: z.string() }),
})

export const keyList = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      start: z.string(),
      name: z.string().nullable(),
      scopes: z.array(z.string()),
      created_at: time,
      revoked_at: time.nullable(),
    }),
  ),
})
export const newKey = z.object({ id: z.string(), key: z.string(), name: z.string().nullable() })

export const tenantList = z.object({
  data: z.array(z.object({ name: z.string(), weight: z.int(), created_at: time })),
})

const hostState = z.object({
  host_id: z.string(),
  wish: z.string(),
  last_seen_at: time.nullable(),
})
const hostReport = hostState.extend({
  status: z.enum(['ready', 'draining', 'silent']),
  host_name: z.string(),
  base_model: z.string(),
  engine: z.string(),
  uptime_ms: count,
  load: z.object({
    sequences_running: count,
    sequences_max: count,
    queue_depth: count,
    queue_depth_max: count,
    slots: count,
    slots_in_use: count,
    kv_tokens_max: count,
    kv_tokens_free: count,
    wait_ms: count,
  }),
  adapters: z.object({ slot: count, ram: count, disk: count }),
})
export type HostReport = z.infer<typeof hostReport>
const goneHost = hostState.extend({ status: z.literal('gone') })
export const hostList = z.object({ data: z.array(z.union([goneHost, hostReport])) })
export type HostView = z.infer<typeof hostList>['data'][number]

export const healthReply = z.object({
  status: z.enum(['ok', 'degraded']),
  hosts_ready: count,
  database_away_s: count.optional(),
})
export type Health = z.infer<typeof healthReply>

export const bookLag = z.object({
  rollup_s: z.number().nullable(),
  usage_s: z.number().nullable(),
  dead_letters: count,
})
export type Lag = z.infer<typeof bookLag>

/** What a call answers that nobody reads. */
export const anything = z.unknown()

export const poolAdapters = z.object({
  hosts: z.array(z.object({ host_id: z.string(), host_name: z.string() })),
  adapters_total: count,
  data: z.array(
    z.object({
      digest: z.string(),
      models: z.array(z.string()),
      hosts: z.array(
        z.object({
          host_id: z.string(),
          tier: z.enum(['slot', 'ram', 'disk']),
          sequences: count,
        }),
      ),
    }),
  ),
})
export type PoolAdapters = z.infer<typeof poolAdapters>

export const poolLatency = z.object({
  bounds_us: z.array(count),
  data: z.array(
    z.object({
      kind: z.enum(['ttft', 'swap']),
      adapter_source: z.enum(['none', 'slot', 'ram', 'disk', 'store']),
      counts: z.array(count),
    }),
  ),
})
export type PoolLatency = z.infer<typeof poolLatency>

const savingsRow = z.object({
  requests: count,
  pool_pusd: pusd,
  dedicated_pusd: pusd,
  scale_to_zero_pusd: pusd,
  saved_percent_vs_dedicated: z.number().nullable(),
  saved_percent_vs_scale_to_zero: z.number().nullable(),
})
export type SavingsRow = z.infer<typeof savingsRow>
export const poolSavings = z.object({
  start: time,
  end: time,
  hosts: count,
  gpu_usd_per_hour: z.string(),
  storage_usd_per_gib_month: z.string(),
  cold_start_s: z.number(),
  keep_warm_s: z.number(),
  totals: savingsRow,
  data: z.array(savingsRow.extend({ tenant: z.string().nullable(), model: z.string() })),
})
