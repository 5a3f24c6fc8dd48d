/**
 * Portions of limits that many edges share: one statement asks for what an edge lacks and gives
 * back what it does not need. The rules are the functions' in migrations/: whoever asks, the sum of
 * what is held never passes a limit.
 */
import { and, inArray, isNull, lt, lte, or, sql } from 'drizzle-orm'
import { z } from 'zod'
import type { Db } from '../database.ts'
import { type SpendLease, spendLeases } from '../schema/spend-leases.ts'

export type { SpendLease }

interface Wish {
  /** Id of a tenant or a key. */
  readonly scopeId: string
  /** The least that helps: less is refused. 0 = nothing is asked for. */
  readonly min: bigint
  /** Granted as far as there is. */
  readonly want: bigint
}

export interface RateAsk extends Wish {
  readonly kind: 'requests' | 'tokens'
  /** Units of this edge's portions that were not used, by slice. */
  readonly refunds: readonly { readonly slice: number; readonly units: bigint }[]
}

export interface ConcurrencyAsk extends Wish {
  readonly kind: 'concurrency'
  /** What the edge has of it. Also says that the edge lives. */
  readonly held: bigint
}

export interface SpendAsk extends Wish {
  readonly kind: 'spend'
  /** `YYYY-MM` */
  readonly month: string
  /** Of the lease that is granted. */
  readonly leaseId: string
  readonly reports: readonly LeaseReport[]
}

/** What an edge knows of a lease of its own. Also says that the edge lives. */
export interface LeaseReport {
  readonly id: string
  /** Cost of its requests that have ended, and the most that those under way can cost. */
  readonly amountPusd: bigint
  /** No request is under way, and none will be admitted. */
  readonly isReturned: boolean
}

/** `units`: requests or tokens; of `spend`, pico-USD. */
export type PortionAsk = RateAsk | ConcurrencyAsk | SpendAsk

const integer = z.string().transform(BigInt)

const portionGrant = z
  .object({
    scope_id: z.string(),
    kind: z.enum(['requests', 'tokens', 'concurrency', 'spend']),
    granted: integer,
    limit: integer.nullable(),
    free: integer.nullable(),
    slice: z.number(),
    valid_ms: z.number(),
    retry_ms: z.number().nullable(),
    is_exhausted: z.boolean().nullable(),
    spent: integer.nullish(),
  })
  .transform((row) => ({
    scopeId: row.scope_id,
    kind: row.kind,
    /** 0 = refused. */
    granted: row.granted,
    /** As the database has it now; null = it was taken away. */
    limit: row.limit,
    /** What nobody holds, after the grant. */
    free: row.free,
    slice: row.slice,
    /** From when the question was sent. */
    validMs: row.valid_ms,
    /** When a refused ask may succeed at the latest, if nothing else is granted; null = never. */
    retryMs: row.retry_ms,
    /** The month's budget is used up, whatever other edges still hold. */
    isExhausted: row.is_exhausted ?? false,
    /** Of a month's budget: what is charged, or certain to be. null = another kind of limit. */
    spent: row.spent ?? null,
  }))
export type PortionGrant = z.infer<typeof portionGrant>

/** One answer an ask, in any order; at most one ask a scope and kind. */
export async function takePortions(
  db: Db,
  edgeId: string,
  asks: readonly PortionAsk[],
): Promise<PortionGrant[]> {
  const json = JSON.stringify(asks.map(toRow), (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  )
  const result = await db.execute<{ reply: unknown }>(
    sql`select take_portions(${edgeId}, ${json}::text::jsonb) as reply`,
  )
  return result.rows.map(({ reply }) => portionGrant.parse(reply))
}

function toRow(ask: PortionAsk): object {
  const { scopeId: scope_id, kind, min, want } = ask
  const wish = { scope_id, kind, min, want, refunds: [] }
  if (ask.kind === 'concurrency') return { ...wish, held: ask.held }
  if (ask.kind !== 'spend') return { ...wish, refunds: ask.refunds }
  const reports = ask.reports.map(({ id, amountPusd: amount, isReturned: is_returned }) => ({
    id,
    amount,
    is_returned,
  }))
  return { ...wish, month: ask.month, lease_id: ask.leaseId, reports }
}

/**
 * Closes leases that hold nothing more: fully charged ones, and those whose edge has not been heard
 * of since they expired, at what was charged. Returns how many.
 */
export async function closeSpendLeases(db: Db): Promise<number> {
  const isSettled = and(
    sql`${spendLeases.isReturned}`,
    lte(spendLeases.amountPusd, spendLeases.postedPusd),
  )
  const closed = await db
    .update(spendLeases)
    .set({ closedAt: sql`now()` })
    .where(and(isNull(spendLeases.closedAt), or(isSettled, lt(spendLeases.expiresAt, sql`now()`))))
    .returning({ id: spendLeases.id })
  return closed.length
}

export async function findSpendLeases(db: Db, ids: readonly string[]): Promise<SpendLease[]> {
  return db
    .select()
    .from(spendLeases)
    .where(inArray(spendLeases.id, [...ids]))
}
