/** Hosts, as their heartbeats describe them. */
import { asc, gte, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import type { Heartbeat } from '../heartbeat.ts'
import { hosts } from '../schema/hosts.ts'

export type { Heartbeat }

export interface HostRow {
  id: string
  epoch: number
  /** By the clock of the edge that received it. */
  seenAt: Date
  heartbeat: Heartbeat
}

/**
 * Keeps the newest report of each host: of one start the one that counts higher, however late
 * another arrives. false when a newer start of the same host has reported: the sender is a ghost of
 * an old one.
 */
export async function recordHeartbeat(
  db: Db,
  heartbeat: Heartbeat,
  receivedAt: Date,
): Promise<boolean> {
  const { adapters, ...report } = heartbeat
  const rows = await db
    .insert(hosts)
    .values({
      id: report.host_id,
      epoch: report.epoch,
      report,
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
      setWhere: sql`excluded.epoch >= ${hosts.epoch}`,
    })
    .returning({ id: hosts.id })
  return rows.length > 0
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
