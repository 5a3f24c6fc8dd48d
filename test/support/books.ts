/**
 * The three books of usage: what clients were told, the host's journal (read by its own tool) and
 * the ledger (read over HTTP), each as rows that can be compared.
 */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { usageEvent } from '../../gpu-host/protocol.ts'
import { callEdge, toPath } from '../../scripts/lib/api-client.ts'
import { tenantList, usageReport } from '../../scripts/lib/edge-replies.ts'
import { readMetrics } from './metrics.ts'
import { PROJECT_ROOT } from './nozzle.ts'
import type { Pool } from './pool.ts'
import { until } from './until.ts'

const run = promisify(execFile)
/** Fewer than the tests make, so that pages are turned. */
const EVENTS_PER_PAGE = 90

export interface UsageRow {
  readonly tenant: string
  readonly requestId: string
  readonly model: string
  readonly promptTokens: number
  readonly cachedPromptTokens: number
  readonly completionTokens: number
  readonly finish: string
  readonly source: string
}

export interface LedgerRow extends UsageRow {
  readonly costPusd: bigint
}

const ledgerPage = z.object({
  data: z.array(
    usageEvent
      .pick({
        ...{ request_id: true, model: true, finish_reason: true, source: true },
        ...{ prompt_tokens: true, cached_prompt_tokens: true, completion_tokens: true },
      })
      .extend({ cost_pusd: z.string().regex(/^\d+$/) }),
  ),
  next: z.string().nullable(),
})

/** Every settled event, oldest first. Readable at any time, also when the pool is stopped. */
export async function readJournal(pool: Pool): Promise<UsageRow[]> {
  const { data: tenants } = await callEdge(
    pool.operator,
    { method: 'GET', path: '/v1/tenants' },
    tenantList,
  )
  const dump = join(PROJECT_ROOT, 'gpu-host', 'journal', 'dump.ts')
  const { stdout } = await run(process.execPath, [dump, join(pool.dir.root, 'host', 'journal')], {
    maxBuffer: 64 * 1024 * 1024,
  })
  const lines = stdout.split('\n').filter((line) => line !== '')
  return lines.map((line) => {
    const event = usageEvent.parse(JSON.parse(line))
    const tenant = tenants.find(({ id }) => id === event.tenant_id)
    return toRow(tenant?.name ?? event.tenant_id, event)
  })
}

/** All pages of each tenant's events. */
export async function readLedger(pool: Pool, tenants: readonly string[]): Promise<LedgerRow[]> {
  const rows: LedgerRow[] = []
  for (const tenant of tenants) {
    const base = `${toPath('v1', 'tenants', tenant, 'usage', 'events')}?limit=${EVENTS_PER_PAGE}`
    for (let path: string | null = base; path !== null; ) {
      const page: z.infer<typeof ledgerPage> = await callEdge(
        pool.operator,
        { method: 'GET', path },
        ledgerPage,
      )
      for (const event of page.data) {
        rows.push({ ...toRow(tenant, event), costPusd: BigInt(event.cost_pusd) })
      }
      path = page.next === null ? null : `${base}&after=${page.next}`
    }
  }
  return rows
}

export async function readUsageReport(pool: Pool, tenant: string) {
  const path = toPath('v1', 'tenants', tenant, 'usage')
  return callEdge(pool.operator, { method: 'GET', path }, usageReport)
}

/** Resolves once no request runs and the edge has acknowledged every event. */
export async function untilSettled(pool: Pool): Promise<void> {
  await until('all requests ended and all usage shipped', async () => {
    const metrics = await readMetrics(await pool.host()).catch(() => null)
    const open = [
      ...['nozzle_sequences_running', 'nozzle_queue_depth'],
      'nozzle_usage_unshipped_events',
    ]
    return metrics && open.every((name) => metrics.value(name) === 0) ? true : null
  })
}

type EventCounts = Pick<
  z.infer<typeof usageEvent>,
  | 'request_id'
  | 'model'
  | 'prompt_tokens'
  | 'cached_prompt_tokens'
  | 'completion_tokens'
  | 'finish_reason'
  | 'source'
>

function toRow(tenant: string, event: EventCounts): UsageRow {
  return {
    tenant,
    requestId: event.request_id,
    model: event.model,
    promptTokens: event.prompt_tokens,
    cachedPromptTokens: event.cached_prompt_tokens,
    completionTokens: event.completion_tokens,
    finish: event.finish_reason,
    source: event.source,
  }
}
