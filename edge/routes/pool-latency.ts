/** GET /v1/pool/latency, for the operator: TTFT and swap times of a period, as histograms. */
import { z } from 'zod'
import { countLatencies, LATENCY_BOUNDS_US } from '#db/queries/latency.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { instant } from '../instant.ts'
import { parseValue } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'
import { accessAsOperator } from '../tenant-access.ts'

export const latencyPeriod = z.object({ start: instant, end: instant })

export function showPoolLatency(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    await accessAsOperator(deps, c)
    const { start, end } = parseValue(latencyPeriod, c.req.query())
    if (start >= end) {
      throw new EdgeError('invalid_request', 'start must be before end', { param: 'start' })
    }
    const found = await countLatencies(deps.db, { start, end })
    return c.json({
      start: start.toISOString(),
      end: end.toISOString(),
      /** Upper bounds of `counts`, excluded; its last has none. */
      bounds_us: LATENCY_BOUNDS_US,
      data: found.map(({ kind, source, counts }) => ({ kind, adapter_source: source, counts })),
    })
  }
}
