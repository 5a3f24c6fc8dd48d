/** Hosts, as their heartbeats describe them. */
import { asc, gte, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import type { Heartbeat, HostReport } from '../heartbeat.ts'
import { hosts } from '../schema/hosts.ts'
import type { HostWish } from './host-wishes.ts'

export type { Heartbeat }

/** Without a row a host serves. */
const wishOfHost = sql<HostWish>`coalesce(
  (select wish from host_wishes where host_id = ${hosts.id}), 'serve')`

export interface HostRow {
  id: string
  epoch: number
  /** By the clock of the edge that received it. */
  seenAt: Date
  heartbeat: Heartbeat
}

/**
 * Keeps the newest report of each host: of one start the one that counts higher, however late
 * another arrives. Returns what the operator wants of the host; null when a newer start of it has
 * reported, or one of the same epoch elsewhere: the sender is a ghost of an old one, or runs on a
 * copy of its data directory.
 */
export async function recordHeartbeat(
  db: Db,
  heartbeat: Heartbeat,
  receivedAt: Date,
): Promise<HostWish | null> {
  const { adapters, ...report } = heartbeat
  const rows = await db
    .insert(hosts)
    .values({
      id: report.host_id,
      epoch: report.epoch,
      report: asWished(report),
      adapters,
      seenAt: receivedAt,
    })
    .onConflictDoUpdate({
      target: hosts.id,
      set: {
        epoch: sql`excluded.epoch`,
        report: sql`case when ${isLate} then ${hosts.report} else excluded.report end`,
        // The old value, when equal, keeps its out-of-line storage instead of a new copy a second.
        adapters: sql`case when ${isLate} or ${hosts.adapters} = excluded.adapters
          then ${hosts.adapters} else excluded.adapters end`,
        // Edges' clocks differ; time does not run backwards for a reader.
        seenAt: sql`greatest(${hosts.seenAt}, excluded.seen_at)`,
      },
      setWhere: sql`excluded.epoch > ${hosts.epoch} or (excluded.epoch = ${hosts.epoch}
        and excluded.report->>'url' = ${hosts.report}->>'url')`,
    })
    .returning({ wish: wishOfHost })
  const [row] = rows
  return row?.wish ?? null
}

/** A drained host that starts anew reports itself ready until it hears of its drain. */
function asWished(report: HostReport) {
  return sql<HostReport>`${JSON.stringify(report)}::jsonb || case
    when (select wish from host_wishes where host_id = ${report.host_id}) = 'drain'
    then '{"status": "draining"}'::jsonb else '{}'::jsonb end`
}

/** Whether the report in hand is of the same start as the stored one, and counts lower. */
const isLate = sql`(${hosts.epoch} = excluded.epoch
  and (${hosts.report} ->> 'beat')::bigint > (excluded.report ->> 'beat')::bigint)`

/** Hosts that reported at or after a time, by id. */
export async function listHosts(db: Db, filter: { seenAfter: Date }): Promise<HostRow[]> {
  const rows = await db
    .select()
    .from(hosts)
    .where(gte(hosts.seenAt, filter.seenAfter))
    .orderBy(asc(hosts.id))
  return rows.map(({ id, epoch, seenAt, report, adapters }) => ({
    id,
    epoch,
    seenAt,
    heartbeat: { ...report, adapters },
  }))
}
