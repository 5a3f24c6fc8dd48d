/**
 * A tenant's charges in the order in which they were stored, for whoever follows them: by the
 * transaction that wrote them, those of open transactions not yet, so that a cursor skips none,
 * however late a request ends.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'

/** Everything up to it was seen. */
export interface FeedPosition {
  readonly ingestXid: string
  /** Empty = all of the transactions before. */
  readonly entryId: string
}

export interface FedEntry {
  readonly position: FeedPosition
  readonly requestId: string
  /** Comes again when a later attempt at the request was charged in its place. */
  readonly attempt: number
}

/** Before everything that is stored from now on. */
export async function feedEnd(db: Db): Promise<FeedPosition> {
  const { rows } = await db.execute<{ xid: string }>(sql`
    select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_offset)::text as xid
    from rollup_state`)
  return { ingestXid: rows[0]?.xid ?? '0', entryId: '' }
}

/** The next entries of the tenant after a position, at most `limit`. */
export async function listFedEntries(
  db: Db,
  wish: { readonly tenantId: string; readonly after: FeedPosition; readonly limit: number },
): Promise<FedEntry[]> {
  const { tenantId, after, limit } = wish
  const { rows } = await db.execute<EntryRow>(sql`
    select entry.ingest_xid::text as "ingestXid", entry.id as "entryId",
      entry.request_id as "requestId", entry.attempt::integer as attempt
    from ledger_entries entry
    where entry.ingest_xid >= ${after.ingestXid}::bigint
      and (entry.ingest_xid, entry.id) > (${after.ingestXid}::bigint, ${after.entryId})
      and entry.ingest_xid < (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        + xid_offset from rollup_state)
      and entry.tenant_id = ${tenantId} and entry.kind in ('usage', 'usage_reversal')
    order by entry.ingest_xid, entry.id limit ${limit}`)
  return rows.map(({ ingestXid, entryId, requestId, attempt }) => {
    return { position: { ingestXid, entryId }, requestId, attempt }
  })
}

type EntryRow = FeedPosition & Omit<FedEntry, 'position'> & Record<string, unknown>
