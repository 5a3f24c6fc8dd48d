/**
 * Who answers a request that came with an `Idempotency-Key`. A claim is one statement, so that of
 * many at the same moment one wins. Each try is numbered: a later one takes over from an edge that
 * died, and what the earlier one still writes changes nothing.
 */
import { and, eq, lte, sql } from 'drizzle-orm'
import type { Db } from '../database.ts'
import { type IdempotencyState, idempotencyKeys } from '../schema/idempotency-keys.ts'

/** How long a key stands for its request. */
const KEPT = sql`interval '24 hours'`
/** An edge that has not renewed its claim for so long is taken for dead. */
const CLAIM = sql`interval '30 seconds'`

export interface IdempotencyScope {
  readonly tenantId: string
  /** null = the operator's. */
  readonly keyId: string | null
  readonly idempotencyKey: string
}

export interface IdempotencyClaim extends IdempotencyScope {
  readonly requestId: string
  /** 1, 2, 3 … */
  readonly tries: number
}

export type ClaimOutcome =
  | { readonly type: 'claimed'; readonly claim: IdempotencyClaim }
  /** The key was used for another body. */
  | { readonly type: 'reused' }
  | { readonly type: 'running' }
  /** The client left with a part of the answer. */
  | { readonly type: 'cut'; readonly requestId: string }
  /** `reply` null = it was too large to keep. */
  | { readonly type: 'done'; readonly requestId: string; readonly reply: StoredReply | null }

export interface StoredReply {
  readonly body: string
  readonly contentType: string
}

/** `requestId` is for a key that is new; one that is known keeps its own. */
export async function claimIdempotencyKey(
  db: Db,
  scope: IdempotencyScope,
  request: { readonly bodyHash: string; readonly requestId: string },
): Promise<ClaimOutcome> {
  const { tenantId, idempotencyKey } = scope
  const keyId = scope.keyId ?? ''
  const result = await db.execute<{
    is_claimed: boolean
    body_hash: string
    request_id: string
    tries: number
    state: IdempotencyState
    reply_body: string | null
    reply_type: string | null
  }>(sql`
    with claimed as (
      insert into idempotency_keys as held (tenant_id, key_id, idempotency_key, body_hash,
        request_id, state, locked_until, expires_at)
      values (${tenantId}, ${keyId}, ${idempotencyKey}, ${request.bodyHash}, ${request.requestId},
        'running', now() + ${CLAIM}, now() + ${KEPT})
      on conflict (tenant_id, key_id, idempotency_key) do update set
        body_hash = excluded.body_hash, state = 'running', locked_until = excluded.locked_until,
        request_id = case when held.expires_at <= now() then excluded.request_id
          else held.request_id end,
        tries = case when held.expires_at <= now() then 1 else held.tries + 1 end,
        reply_body = null, reply_type = null,
        expires_at = case when held.expires_at <= now() then excluded.expires_at
          else held.expires_at end
      where held.expires_at <= now() or (held.body_hash = excluded.body_hash and
        (held.state = 'open' or (held.state = 'running' and held.locked_until <= now())))
      returning *
    )
    select true as is_claimed, body_hash, request_id, tries, state, reply_body, reply_type
    from claimed
    union all
    select false, body_hash, request_id, tries, state, reply_body, reply_type
    from idempotency_keys where tenant_id = ${tenantId} and key_id = ${keyId}
      and idempotency_key = ${idempotencyKey} and not exists (select from claimed)`)
  const [row] = result.rows
  // Written by another edge since this statement began.
  if (row === undefined) return { type: 'running' }
  const { request_id: requestId, tries, state } = row
  if (row.is_claimed) return { type: 'claimed', claim: { ...scope, requestId, tries } }
  if (row.body_hash !== request.bodyHash) return { type: 'reused' }
  if (state === 'cut') return { type: 'cut', requestId }
  if (state !== 'done') return { type: 'running' }
  const { reply_body: body, reply_type: contentType } = row
  const reply = body === null || contentType === null ? null : { body, contentType }
  return { type: 'done', requestId, reply }
}

/** Says that the edge lives. False when another try has taken over. */
export async function renewIdempotencyClaim(db: Db, claim: IdempotencyClaim): Promise<boolean> {
  const rows = await db
    .update(idempotencyKeys)
    .set({ lockedUntil: sql`now() + ${CLAIM}` })
    .where(isOwn(claim))
    .returning({ tries: idempotencyKeys.tries })
  return rows.length > 0
}

/** How the try ended. Nothing when another try has taken over. */
export async function endIdempotencyClaim(
  db: Db,
  claim: IdempotencyClaim,
  end: { readonly state: 'open' | 'done' | 'cut'; readonly reply: StoredReply | null },
): Promise<void> {
  await db
    .update(idempotencyKeys)
    .set({
      state: end.state,
      replyBody: end.reply?.body ?? null,
      replyType: end.reply?.contentType ?? null,
    })
    .where(isOwn(claim))
}

/** Nothing was billed: the key is free. Nothing when another try has taken over. */
export async function releaseIdempotencyClaim(db: Db, claim: IdempotencyClaim): Promise<void> {
  // A later try may supersede what an earlier one was billed for, so its request stays.
  if (claim.tries > 1) return endIdempotencyClaim(db, claim, { state: 'open', reply: null })
  await db.delete(idempotencyKeys).where(isOwn(claim))
}

/** Returns how many. */
export async function deleteOldIdempotencyKeys(db: Db): Promise<number> {
  const rows = await db
    .delete(idempotencyKeys)
    .where(lte(idempotencyKeys.expiresAt, sql`now()`))
    .returning({ requestId: idempotencyKeys.requestId })
  return rows.length
}

function isOwn(claim: IdempotencyClaim) {
  return and(
    eq(idempotencyKeys.tenantId, claim.tenantId),
    eq(idempotencyKeys.keyId, claim.keyId ?? ''),
    eq(idempotencyKeys.idempotencyKey, claim.idempotencyKey),
    eq(idempotencyKeys.tries, claim.tries),
    eq(idempotencyKeys.state, 'running'),
  )
}
