/**
 * The ledger's usage entries in the order in which a receiver gets them: by the transaction that
 * wrote them, those of open transactions not yet, so that a cursor skips none. At least once: the
 * cursor moves after the receiver has taken them.
 */
import { sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import type { PriceBasis } from '../schema/ledger-entries.ts'
import type { FinishReason, UsageSource } from '../schema/usage-events.ts'

/** Everything up to it was dealt with. */
export interface ExportPosition {
  readonly ingestXid: string
  readonly entryId: string
}

export interface ExportClaim {
  readonly position: ExportPosition
  /** Attempts before this one that came to nothing, in a row. */
  readonly failures: number
}

/** A charge, or a charge taken back, and the usage that it is of. */
export interface ExportedEntry {
  ingestXid: string
  entryId: string
  kind: 'usage' | 'usage_reversal'
  requestId: string
  attempt: number
  tenantId: string
  keyId: string | null
  model: string
  modelId: string | null
  adapterVersionId: string | null
  baseModel: string
  hostId: string
  finishReason: FinishReason
  source: UsageSource
  promptTokens: number
  cachedPromptTokens: number
  completionTokens: number
  gpuUs: number
  swapUs: number
  adapterBytes: number
  amountPusd: bigint
  priceId: string | null
  priceBasis: PriceBasis
  occurredAt: Date
}

interface Claimant {
  /** Names the receiver. */
  readonly exportId: string
  /** Names who sends; new for each run. */
  readonly claimant: string
}

/** null = somebody else is sending, or it is not yet time to try again. */
export async function claimExport(
  db: Db,
  { exportId, claimant, forMs }: Claimant & { readonly forMs: number },
): Promise<ExportClaim | null> {
  const { rows } = await db.execute<{ xid: string; entry_id: string; failures: number }>(sql`
    insert into event_exports as export (id, claimed_by, claimed_until)
    values (${exportId}, ${claimant}, now() + ${forMs} * interval '1 millisecond')
    on conflict (id) do update
      set claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
      where (export.claimed_until is null or export.claimed_until < now())
        and (export.retry_at is null or export.retry_at <= now())
    returning ingest_xid::text as xid, entry_id, failures`)
  const [row] = rows
  if (row === undefined) return null
  const { xid: ingestXid, entry_id: entryId, failures } = row
  return { position: { ingestXid, entryId }, failures }
}

/** The next entries after a position, at most `limit`. */
export async function listEntriesToExport(
  db: Db,
  after: ExportPosition,
  limit: number,
): Promise<ExportedEntry[]> {
  const { rows } = await db.execute<EntryRow>(sql`
    with next as materialized (
      select * from ledger_entries entry
      where entry.ingest_xid >= ${after.ingestXid}::bigint
        and (entry.ingest_xid, entry.id) > (${after.ingestXid}::bigint, ${after.entryId})
        and entry.ingest_xid < (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint
          + xid_offset from rollup_state)
        and entry.kind in ('usage', 'usage_reversal')
      order by entry.ingest_xid, entry.id limit ${limit}
    )
    select next.ingest_xid::text as "ingestXid", next.id as "entryId", next.kind,
      next.request_id as "requestId", next.attempt, next.tenant_id as "tenantId",
      event.key_id as "keyId", event.model, event.model_id as "modelId",
      event.adapter_version_id as "adapterVersionId", event.base_model as "baseModel",
      event.host_id as "hostId", event.finish_reason as "finishReason", event.source,
      event.prompt_tokens::text as "promptTokens",
      event.cached_prompt_tokens::text as "cachedPromptTokens",
      event.completion_tokens::text as "completionTokens", event.gpu_us::text as "gpuUs",
      event.swap_us::text as "swapUs", event.adapter_bytes::text as "adapterBytes",
      next.amount_pusd::text as "amountPusd", next.price_id as "priceId",
      next.price_basis as "priceBasis",
      (extract(epoch from next.occurred_at) * 1000)::bigint::text as "occurredAt"
    from next join usage_events event
      on event.request_id = next.request_id and event.attempt = next.attempt
    order by next.ingest_xid, next.id`)
  return rows.map((row) => ({
    ...row,
    promptTokens: Number(row.promptTokens),
    cachedPromptTokens: Number(row.cachedPromptTokens),
    completionTokens: Number(row.completionTokens),
    gpuUs: Number(row.gpuUs),
    swapUs: Number(row.swapUs),
    adapterBytes: Number(row.adapterBytes),
    amountPusd: BigInt(row.amountPusd),
    occurredAt: new Date(Number(row.occurredAt)),
  }))
}

/**
 * Notes that everything up to `position` was dealt with, what the receiver refused of it, and goes
 * on holding the claim. false = the claim has lapsed and another has taken it: nothing was noted.
 */
export async function advanceExport(
  db: Db,
  wish: Claimant & {
    readonly position: ExportPosition
    readonly refused: readonly { readonly entryId: string; readonly reason: string }[]
    readonly forMs: number
  },
): Promise<boolean> {
  const { exportId, claimant, position, refused, forMs } = wish
  const letters = JSON.stringify(refused.map(({ entryId, reason }) => [entryId, reason]))
  const { rows } = await db.execute(sql`
    with moved as (
      update event_exports set ingest_xid = ${position.ingestXid}::bigint,
        entry_id = ${position.entryId}, failures = 0, retry_at = null,
        claimed_until = now() + ${forMs} * interval '1 millisecond'
      where id = ${exportId} and claimed_by = ${claimant} returning id
    ), given_up as (
      insert into event_dead_letters (export_id, entry_id, reason)
      select moved.id, letter->>0, letter->>1
      from moved cross join jsonb_array_elements(${letters}::text::jsonb) as letter
      on conflict do nothing
    )
    select id from moved`)
  return rows.length > 0
}

/** Ends the claim. @param retryMs nobody sends before; null = this attempt was not in vain. */
export async function releaseExport(
  db: Db,
  { exportId, claimant, retryMs }: Claimant & { readonly retryMs: number | null },
): Promise<void> {
  const failed = retryMs === null ? 0 : 1
  await db.execute(sql`
    update event_exports set claimed_by = null, claimed_until = null,
      failures = failures + ${failed},
      retry_at = case when ${failed} = 1 then now() + ${retryMs ?? 0} * interval '1 millisecond' end
    where id = ${exportId} and claimed_by = ${claimant}`)
}

type Counted =
  | 'promptTokens'
  | 'cachedPromptTokens'
  | 'completionTokens'
  | 'gpuUs'
  | 'swapUs'
  | 'adapterBytes'
  | 'amountPusd'
  | 'occurredAt'
type EntryRow = Omit<ExportedEntry, Counted> & Record<Counted, string>
