/** GET /healthz and /metrics: whether this edge can serve, and what it counted. */
import { databaseTimeMs } from '#db/queries/time.ts'
import { withinTime } from '#db/within-time.ts'
import type { Heartbeat } from '#protocol'
import type { Deps } from '../deps.ts'
import { databaseUnavailable } from '../errors.ts'
import { LOOKUP_WAIT_MS, OUTAGE_GRACE_MS } from '../limits.ts'
import type { HostStanding } from '../metrics.ts'
import type { EdgeContext } from '../request-context.ts'

function hostsReady(deps: Deps): number {
  return deps.pool.known().filter((heartbeat) => heartbeat.status === 'ready').length
}

function standingOf(deps: Deps, { host_id: hostId, status }: Heartbeat): HostStanding {
  if (status === 'draining') return 'draining'
  const { isEjected, isDoubted } = deps.health.standing(hostId)
  if (isEjected) return 'ejected'
  return isDoubted ? 'doubted' : 'ready'
}

/**
 * 200 while this edge serves anybody: `degraded` while the database is away and known keys still
 * work, 503 when none does, or when this edge alone is cut off from the database. An empty pool is
 * no reason to take the edge away from it.
 */
export function showHealth(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const failure = await askDatabase(deps)
    const awayMs = deps.downForMs() ?? 0
    const isCutOff = deps.cutOff.isCutOff(deps.monotonicMs() - awayMs)
    const isOver = awayMs >= OUTAGE_GRACE_MS || isCutOff
    if (failure !== null && isOver) throw databaseUnavailable(failure)
    await deps.pool.ready().catch(() => {})
    return c.json({
      status: failure === null ? 'ok' : 'degraded',
      base_model: deps.config.baseModel,
      hosts_ready: hostsReady(deps),
      ...(failure !== null && { database_away_s: Math.round(awayMs / 1000) }),
    })
  }
}

/** null = it answers. */
async function askDatabase(deps: Deps): Promise<unknown> {
  try {
    const answer = await withinTime(databaseTimeMs(deps.db), LOOKUP_WAIT_MS)
    return answer === null ? new Error(`no answer within ${LOOKUP_WAIT_MS} ms`) : null
  } catch (error) {
    return error
  }
}

export function showMetrics(deps: Deps): (c: EdgeContext) => Response {
  return (c) => {
    const snapshotAgeMs = deps.pool.snapshotAgeMs()
    const text = deps.metrics.toText({
      hostsReady: hostsReady(deps),
      hosts: deps.pool.known().map((heartbeat) => standingOf(deps, heartbeat)),
      voidsWaiting: deps.voids.size,
      snapshotAgeMs: Number.isFinite(snapshotAgeMs) ? snapshotAgeMs : null,
      isDatabaseUp: deps.downForMs() === null,
      clockOffsetMs: deps.clock.offsetMs(),
    })
    return c.body(text, 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
  }
}
