/**
 * What hosts tell the edge, signed: heartbeats and usage. A heartbeat is answered with what the
 * operator wants of the host. A usage batch is acknowledged only when all of it is stored.
 */
import type { z } from 'zod'
import { isOutage } from '#db/errors.ts'
import { upsertBaseModel } from '#db/queries/base-models.ts'
import { recordHeartbeat } from '#db/queries/hosts.ts'
import { recordUsageEvents } from '#db/queries/usage.ts'
import { withinTime } from '#db/within-time.ts'
import {
  EDGE_ROUTES,
  type Heartbeat,
  type HeartbeatReceipt,
  type HostWish,
  heartbeat,
  usageBatch,
} from '#protocol'
import { assertSignedBody } from '../auth/host-signature.ts'
import type { Deps } from '../deps.ts'
import { EdgeError } from '../errors.ts'
import { HEARTBEAT_BYTES_MAX, LOOKUP_WAIT_MS, USAGE_BATCH_BYTES_MAX } from '../limits.ts'
import { absurdityOf } from '../pool/snapshot-check.ts'
import { parseJson, parseValue, readBytes } from '../read-body.ts'
import type { EdgeContext } from '../request-context.ts'

export function takeHeartbeat(deps: Deps): (c: EdgeContext) => Promise<Response> {
  /** Base model → digest, as this process wrote them. */
  const written = new Map<string, string>()
  const store = async (report: Heartbeat): Promise<HostWish> => {
    const wish = await recordHeartbeat(deps.db, report, new Date(deps.nowMs()))
    if (wish === null) {
      deps.pool.forget(report.host_id)
      throw staleEpoch()
    }
    const { base_model: name, base_digest: digest } = report
    if (written.get(name) !== digest) {
      await upsertBaseModel(deps.db, { name, digest })
      written.set(name, digest)
    }
    deps.wishes.note(report.host_id, wish)
    return wish
  }
  return async (c) => {
    const told = await readSigned(deps, c, EDGE_ROUTES.heartbeat, heartbeat, HEARTBEAT_BYTES_MAX)
    if (told.stored_ago_ms !== null) deps.cutOff.heard(told.stored_ago_ms)
    const absurdity = absurdityOf(told)
    if (absurdity !== null) throw refused(deps, ...absurdity)
    const held = deps.wishes.hold(told)
    // Taken before it is stored: serving goes on while the database is away.
    const taken = deps.pool.observe(held)
    if (taken === 'stale') throw staleEpoch()
    if (taken === 'url_taken') {
      throw new EdgeError('invalid_request', 'a host that started later reports this url', {
        param: 'url',
      })
    }
    const wish = await withinTime(store(told), LOOKUP_WAIT_MS).catch((error: unknown) => {
      if (isOutage(error)) return null
      throw error
    })
    const wished = deps.wishes.hold(told)
    if (wished.status !== held.status) deps.pool.observe(wished)
    // Where not, this edge has heard the host, and others ask the hosts that they last knew.
    const receipt: HeartbeatReceipt = { stored: wish !== null, wish }
    return c.json(receipt)
  }
}

export function takeUsage(deps: Deps): (c: EdgeContext) => Promise<Response> {
  return async (c) => {
    const batch = await readSigned(deps, c, EDGE_ROUTES.usage, usageBatch, USAGE_BATCH_BYTES_MAX)
    const { inserted, known } = await recordUsageEvents(deps.db, batch.events)
    const { metrics } = deps
    const nowMs = deps.nowMs()
    for (const { ended_at: endedAt } of batch.events) {
      // Clocks differ: an event from the future has no delay.
      metrics.usageDelaySeconds.observe({}, Math.max(0, nowMs - Date.parse(endedAt)) / 1000)
    }
    metrics.usageEvents.add({ outcome: 'inserted' }, inserted)
    metrics.usageEvents.add({ outcome: 'known' }, known)
    return c.json({ inserted, known })
  }
}

async function readSigned<T extends z.ZodType>(
  deps: Deps,
  c: EdgeContext,
  route: string,
  schema: T,
  bytesMax: number,
): Promise<z.infer<T>> {
  const authorization = c.req.header('authorization') ?? null
  const claims = await deps.hostVerifier.verify(authorization, { method: c.req.method, route })
  const bytes = await readBytes(c.req.raw, bytesMax)
  await assertSignedBody(claims, bytes)
  // The reply names the call that it answers.
  c.set('requestId', claims.request_id)
  return parseValue(schema, parseJson(bytes))
}

function refused(deps: Deps, field: string, why: string): EdgeError {
  deps.metrics.snapshotRefusals.add({ reason: 'absurd' })
  return new EdgeError('invalid_request', `${field}: ${why}`, { param: field })
}

function staleEpoch(): EdgeError {
  return new EdgeError('host_epoch_stale', 'a newer start of this host has reported')
}
