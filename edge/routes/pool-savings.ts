/**
 * GET /v1/pool/savings, for the operator: what the pool spared in a period against a machine per
 * model, awake or sleeping. Reckoned by #db/savings from real events and from prices that the
 * caller states or leaves as they are.
 */
import { z } from 'zod'
import { formatUsd, parseUsd } from '#db/money.ts'
import {
  countHostsSeen,
  listModelUse,
  listUseRuns,
  type ModelUse as UseRow,
} from '#db/queries/model-use.ts'
import {
  beginAtFirstUse,
  costModels,
  leastHosts,
  type ModelCost,
  type ModelUse,
  savedPercent,
  sumCosts,
} from '#db/savings/pool-savings.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { instant } from '../instant.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator } from '../tenant-access.ts'

const PAGE_MODELS = 50
/** `nozzle savings` reckons pools of any size; this is one request. */
const MODELS_MAX = 1000

const usd = z.string().transform((text, context) => {
  const pusd = parseUsd(text)
  if (pusd !== null) return pusd
  context.addIssue({ code: 'custom', message: 'must be an amount like 2.50' })
  return z.NEVER
})
export const savingsQuery = z.object({
  start: instant,
  end: instant,
  gpu_usd_per_hour: usd.prefault('2.50'),
  storage_usd_per_gib_month: usd.prefault('0.02'),
  cold_start_s: z.coerce.number().min(0).max(86_400).default(90),
  keep_warm_s: z.coerce.number().min(0).max(2_592_000).default(300),
})
type Wish = z.infer<typeof savingsQuery>

/** The period begins with the pool's first deploy or request, where that is later. */
export function showPoolSavings(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const wish = parseValue(savingsQuery, c.req.query())
    if (wish.start >= wish.end) {
      throw new EdgeError('invalid_request', 'start must be before end', { param: 'start' })
    }
    const all = await readUses(deps, wish)
    const endMs = wish.end.getTime()
    const { startMs, uses } = beginAtFirstUse(all, wish.start.getTime()) ?? {
      startMs: wish.start.getTime(),
      uses: [],
    }
    const seen = await countHostsSeen(deps.db, wish)
    const assumptions = {
      ...{ startMs, endMs, hosts: Math.max(seen, leastHosts(uses, startMs, endMs)) },
      gpuPusdPerHour: wish.gpu_usd_per_hour,
      storagePusdPerGibMonth: wish.storage_usd_per_gib_month,
      coldStartMs: Math.round(wish.cold_start_s * 1000),
      keepWarmMs: Math.round(wish.keep_warm_s * 1000),
    }
    const costs = costModels(uses, assumptions)
    return c.json({
      start: new Date(startMs).toISOString(),
      end: wish.end.toISOString(),
      hosts: assumptions.hosts,
      gpu_usd_per_hour: formatUsd(wish.gpu_usd_per_hour),
      storage_usd_per_gib_month: formatUsd(wish.storage_usd_per_gib_month),
      cold_start_s: wish.cold_start_s,
      keep_warm_s: wish.keep_warm_s,
      totals: toWire(sumCosts(costs)),
      data: costs.map(({ use, ...cost }) => ({
        tenant: use.tenant,
        model: use.model,
        ...toWire({ ...cost, requests: use.requests }),
      })),
    })
  }
}

async function readUses(deps: Deps, wish: Wish): Promise<ModelUse[]> {
  const { start, end } = wish
  const uses: ModelUse[] = []
  let after: string | null = null
  for (;;) {
    const rows: UseRow[] = await listModelUse(deps.db, { start, end, limit: PAGE_MODELS, after })
    const runs = await listUseRuns(deps.db, {
      ...{ start, end, keys: rows.map(({ key }) => key) },
      coldStartMs: Math.round(wish.cold_start_s * 1000),
      keepWarmMs: Math.round(wish.keep_warm_s * 1000),
    })
    for (const row of rows) uses.push(toUse(row, runs.get(row.key) ?? []))
    if (rows.length < PAGE_MODELS) return uses
    if (uses.length >= MODELS_MAX) {
      const message = `The period has more than ${MODELS_MAX} models: \`nozzle savings\` reckons those.`
      throw new EdgeError('invalid_request', message, { param: 'start' })
    }
    after = rows.at(-1)?.key ?? null
  }
}

function toUse(row: UseRow, runs: ModelUse['runs']): ModelUse {
  const { tenant, model, baseModel, requests, existsFrom, existsTo, firstAt } = row
  return {
    ...{ tenant, model, baseModel, requests, runs },
    gpuUs: BigInt(row.gpuUs),
    swapUs: BigInt(row.swapUs),
    storedBytes: BigInt(row.storedBytes),
    existsFromMs: existsFrom.getTime(),
    existsToMs: existsTo.getTime(),
    firstMs: firstAt.getTime(),
  }
}

type Costs = Pick<ModelCost, 'pool' | 'dedicated' | 'scaleToZero'> & { readonly requests: number }

/** Money in pico-USD, as text. */
function toWire({ requests, pool, dedicated, scaleToZero }: Costs) {
  return {
    requests,
    pool_pusd: String(pool.total),
    dedicated_pusd: String(dedicated.total),
    scale_to_zero_pusd: String(scaleToZero.total),
    saved_percent_vs_dedicated: savedPercent(pool.total, dedicated.total),
    saved_percent_vs_scale_to_zero: savedPercent(pool.total, scaleToZero.total),
  }
}
