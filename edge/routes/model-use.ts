/**
 * GET /v1/pool/model-use, for the operator: what each model took of the pool and when it was asked,
 * a page of models at a time. What that is worth is for the caller to reckon.
 */
import { z } from 'zod'
import { countHostsSeen, listModelUse, listUseRuns } from '#db/queries/model-use.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { instant } from '../instant.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator } from '../tenant-access.ts'

/** A month of a model that is asked every few minutes is about 10,000 runs. */
const MODELS_MAX = 50

export const modelUsePage = z.object({
  start: instant,
  end: instant,
  cold_start_s: z.coerce.number().min(0).max(86_400),
  keep_warm_s: z.coerce.number().min(0).max(2_592_000),
  limit: z.coerce.number().int().min(1).max(MODELS_MAX).default(MODELS_MAX),
  after: z.string().max(300).optional(),
})

export function showModelUse(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const wish = parseValue(modelUsePage, c.req.query())
    const { start, end, limit } = wish
    if (start >= end) {
      throw new EdgeError('invalid_request', 'start must be before end', { param: 'start' })
    }
    const models = await listModelUse(deps.db, { start, end, limit, after: wish.after ?? null })
    const runs = await listUseRuns(deps.db, {
      ...{ start, end, keys: models.map(({ key }) => key) },
      coldStartMs: Math.round(wish.cold_start_s * 1000),
      keepWarmMs: Math.round(wish.keep_warm_s * 1000),
    })
    return c.json({
      start: start.toISOString(),
      end: end.toISOString(),
      hosts_seen: await countHostsSeen(deps.db, { start, end }),
      data: models.map((use) => ({
        tenant: use.tenant,
        model: use.model,
        base_model: use.baseModel,
        requests: use.requests,
        gpu_us: use.gpuUs,
        swap_us: use.swapUs,
        stored_bytes: use.storedBytes,
        exists_from: use.existsFrom.toISOString(),
        exists_to: use.existsTo.toISOString(),
        first_at: use.firstAt.toISOString(),
        /** [start, end, requests]: Unix milliseconds. */
        runs: (runs.get(use.key) ?? []).map((run) => [run.startMs, run.endMs, run.requests]),
      })),
      next: models.length === limit ? (models.at(-1)?.key ?? null) : null,
    })
  }
}
