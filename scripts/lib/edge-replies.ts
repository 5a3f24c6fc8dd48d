/** The edge's admin replies, as far as the CLI reads them; other fields pass through to --json. */
import { z } from 'zod'
import { usageEvent } from '#protocol'

/** Integers beyond 2^53 come as decimal text. */
const picoUsd = z.string().regex(/^-?\d+$/)

/** Whose key it is; null = the operator's. */
export const caller = z.looseObject({
  tenant: z.looseObject({ id: z.string(), name: z.string() }).nullable(),
  /** Both null for the operator's key. */
  key_id: z.string().nullable(),
  scopes: z.array(z.string()).nullable(),
})
export const tenantReply = z.looseObject({
  id: z.string(),
  name: z.string(),
  weight: z.int(),
  created_at: z.string(),
})
export const tenantList = z.looseObject({ data: z.array(tenantReply) })

export const createdKey = z.looseObject({
  id: z.string(),
  key: z.string(),
  name: z.string().nullable(),
  scopes: z.array(z.string()),
})
export const keyRow = z.looseObject({
  id: z.string(),
  start: z.string(),
  name: z.string().nullable(),
  scopes: z.array(z.string()),
  created_at: z.string(),
  revoked_at: z.string().nullable(),
})
export const keyList = z.looseObject({ data: z.array(keyRow) })
export const revokedKey = z.looseObject({ id: z.string(), revoked_at: z.string() })

export const limitRow = z.looseObject({
  key_id: z.string().nullable(),
  requests_per_minute: z.int().nullable(),
  tokens_per_minute: z.int().nullable(),
  concurrency: z.int().nullable(),
  monthly_spend_pusd: picoUsd.nullable(),
  updated_at: z.string(),
})
export type LimitRow = z.infer<typeof limitRow>
export const limitList = z.looseObject({ data: z.array(limitRow) })
export const removedLimit = z.looseObject({ key_id: z.string().nullable(), removed: z.boolean() })

export const deployedVersion = z.looseObject({
  model: z.string(),
  version: z.int(),
  digest: z.string(),
  base_model: z.string(),
  rank: z.int(),
  target_modules: z.array(z.string()),
  pack_bytes: z.int(),
  endpoint: z.string(),
  unchanged: z.boolean(),
  /** Percent of requests; null = all. */
  canary: z.int().nullable(),
  /** Absent = an edge of an earlier release. */
  ended_canary: z.looseObject({ version: z.int(), weight: z.int() }).nullish(),
})
export type DeployedVersion = z.infer<typeof deployedVersion>

export const modelRow = z.looseObject({
  name: z.string(),
  version: z.int(),
  digest: z.string(),
  base_model: z.string(),
  rank: z.int(),
  target_modules: z.array(z.string()),
  pack_bytes: z.int(),
  created_at: z.string(),
  endpoint: z.string(),
  replaced_version: z.int().nullable(),
  canary: z.looseObject({ version: z.int(), digest: z.string(), weight: z.int() }).nullable(),
})
export type ModelRow = z.infer<typeof modelRow>
export const modelList = z.looseObject({ data: z.array(modelRow) })
export const modelDetail = modelRow.extend({
  history: z.array(
    z.looseObject({ version: z.int(), digest: z.string(), created_at: z.string().optional() }),
  ),
})
/** What a split, a promotion or a rollback made of a model's lanes, or would. */
export const changedLanes = z.looseObject({
  name: z.string(),
  main: z.int(),
  canary: z.looseObject({ version: z.int(), weight: z.int() }).nullable(),
  dry_run: z.boolean(),
})
export type ChangedLanes = z.infer<typeof changedLanes>
export const removedModel = z.looseObject({ name: z.string(), deleted: z.boolean() })

const usageCounts = z.looseObject({
  requests: z.int(),
  prompt_tokens: z.int(),
  cached_prompt_tokens: z.int(),
  completion_tokens: z.int(),
  cost_pusd: picoUsd,
})
export const usageReport = z.looseObject({
  start: z.string().nullable(),
  end: z.string().nullable(),
  data: z.array(usageCounts.extend({ model: z.string(), version: z.int().nullable().optional() })),
  totals: usageCounts,
})
export type UsageReport = z.infer<typeof usageReport>

/** One attempt at a request, as it was reported and charged. */
const usageEventRow = z.looseObject({
  request_id: z.string(),
  attempt: z.int(),
  superseded: z.boolean(),
  key_id: z.string().nullable(),
  model: z.string(),
  prompt_tokens: z.int(),
  cached_prompt_tokens: z.int(),
  completion_tokens: z.int(),
  finish_reason: z.string(),
  ttft_us: z.int().nullable(),
  host_id: z.string(),
  started_at: z.iso.datetime(),
  ended_at: z.iso.datetime(),
  cost_pusd: picoUsd,
})
export type UsageEventRow = z.infer<typeof usageEventRow>
export const usageEventPage = z.looseObject({
  data: z.array(usageEventRow),
  next: z.string().nullable(),
})
export const usageFeedPage = usageEventPage.extend({ next: z.string() })

export const priceRow = z.looseObject({
  id: z.string(),
  base_model: z.string(),
  version: z.int(),
  prompt_pusd: picoUsd,
  cached_prompt_pusd: picoUsd,
  completion_pusd: picoUsd,
  created_at: z.string(),
})
export type PriceRow = z.infer<typeof priceRow>
export const priceList = z.looseObject({ data: z.array(priceRow) })

const invoiceSummary = z.looseObject({
  id: z.string(),
  number: z.int().nullable(),
  status: z.enum(['draft', 'final']),
  tenant: z.looseObject({ name: z.string() }),
  period: z.string(),
  period_end: z.iso.datetime(),
  finalized_at: z.string().nullable(),
  billed_usd: z.string().nullable(),
})
export const invoiceList = z.looseObject({ data: z.array(invoiceSummary) })
export const invoiceDetail = invoiceSummary.extend({
  billed_usd: z.string(),
  exact_pusd: picoUsd,
  requests: z.string(),
  lines: z.array(
    z.looseObject({
      usage_period: z.string(),
      is_correction: z.boolean(),
      model: z.string(),
      base_model: z.string(),
      kind: z.string(),
      price_version_id: z.string().nullable(),
      quantity: z.string(),
      unit_price_pusd: picoUsd,
      exact_pusd: picoUsd,
      billed_usd: z.string(),
    }),
  ),
  notes: z.looseObject({ unpriced_requests: z.string(), recovered_requests: z.string() }),
})
export type InvoiceDetail = z.infer<typeof invoiceDetail>
export const exportManifest = z.looseObject({ sha256: z.string() })

/** What a host last said of itself; only the first four are known of one that is gone. */
export const hostRow = z.looseObject({
  host_id: z.string(),
  host_name: z.string().optional(),
  status: z.enum(['ready', 'draining', 'silent', 'gone']),
  wish: z.enum(['serve', 'drain']),
  last_seen_at: z.string().nullable(),
  url: z.string().optional(),
  engine: z.string().optional(),
  epoch: z.int().optional(),
  base_model: z.string().optional(),
  version: z.string().optional(),
  uptime_ms: z.int().optional(),
  load: z
    .looseObject({
      sequences_running: z.int(),
      sequences_max: z.int(),
      queue_depth: z.int(),
      wait_ms: z.int(),
    })
    .optional(),
  adapters: z.looseObject({ slot: z.int(), ram: z.int(), disk: z.int() }).optional(),
})
export type HostRow = z.infer<typeof hostRow>
export const hostList = z.looseObject({ data: z.array(hostRow) })
export const removedHost = z.looseObject({ host_id: z.string(), removed: z.boolean() })

const instantMs = z.iso.datetime().transform((text) => Date.parse(text))
/** A page of what models took of the pool; `runs` are [start, end, requests] in Unix ms. */
export const modelUsePage = z.looseObject({
  hosts_seen: z.int().min(0),
  data: z.array(
    z.looseObject({
      tenant: z.string().nullable(),
      model: z.string(),
      base_model: z.string(),
      requests: z.int().min(0),
      gpu_us: z.int().min(0),
      swap_us: z.int().min(0),
      stored_bytes: z.int().min(0),
      exists_from: instantMs,
      exists_to: instantMs,
      first_at: instantMs,
      runs: z.array(z.tuple([z.int(), z.int(), z.int().min(1)])),
    }),
  ),
  next: z.string().nullable(),
})
export type ModelUseRow = z.infer<typeof modelUsePage>['data'][number]

export const bookDifferences = z.looseObject({
  data: z.array(
    z.looseObject({
      kind: z.string(),
      tenant_id: z.string().nullable(),
      subject: z.string(),
      field: z.string().nullable(),
      books: z.record(z.string(), z.string().nullable()),
    }),
  ),
})
export type BookDifference = z.infer<typeof bookDifferences>['data'][number]

/** A page of events as hosts reported them, with what the ledger says of each. */
export const bookedEvents = z.looseObject({
  data: z.array(
    z.looseObject({
      event: usageEvent,
      occurred_at: z.iso.datetime(),
      charged_pusd: picoUsd.nullable(),
      price_id: z.string().nullable(),
      is_reversed: z.boolean(),
    }),
  ),
  next: z.string().nullable(),
})
export type BookedEvent = z.infer<typeof bookedEvents>['data'][number]

export const bookTotals = z.looseObject({
  data: z.array(
    z.looseObject({
      tenant_id: z.string(),
      requests: z.int(),
      prompt_tokens: z.int(),
      cached_prompt_tokens: z.int(),
      completion_tokens: z.int(),
      gpu_us: z.int(),
      swap_us: z.int(),
      cost_pusd: picoUsd,
    }),
  ),
})
