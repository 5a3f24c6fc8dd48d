/** GET /healthz and /metrics: whether this edge can serve, and what it counted. */
import { listHosts } from '#db/queries/hosts.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { HOST_SEEN_MS_MAX } from '../limits.ts'
import type { EdgeContext } from '../request-context.ts'

function hostsReady(deps: Deps): number {
  return deps.pool.known().filter((heartbeat) => heartbeat.status === 'ready').length
}

/** 200 while the database answers. An empty pool is no reason to take the edge away from it. */
export function showHealth(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    try {
      await listHosts(deps.db, { seenAfter: new Date(deps.nowMs() - HOST_SEEN_MS_MAX) })
    } catch (error) {
      throw new EdgeError('database_unavailable', 'the database does not answer', { cause: error })
    }
    await deps.pool.ready()
    return c.json({
      status: 'ok',
      base_model: deps.config.baseModel,
      hosts_ready: hostsReady(deps),
    })
  }
}

export function showMetrics(deps: Deps): (c: EdgeContext) => Response {
  return (c) =>
    c.body(deps.metrics.toText(hostsReady(deps)), 200, {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
    })
}
