/**
 * `Idempotency-Key`: a request that is sent again is not generated again. The first to claim the
 * key answers it and keeps the reply; whoever comes later gets that reply, or hears why there is
 * none. A try that reached nobody is repeated under the same request id with higher attempts, so
 * that of all tries one is charged: the last.
 */
import type { Db } from '#db/database.ts'
import {
  type ClaimOutcome,
  claimIdempotencyKey,
  endIdempotencyClaim,
  type IdempotencyClaim,
  releaseIdempotencyClaim,
  renewIdempotencyClaim,
  type StoredReply,
} from '#db/queries/idempotency-keys.ts'
import { toHex } from '../digests.ts'
import { EdgeError, errorText } from '../errors.ts'
import {
  CLAIM_RENEW_MS,
  IDEMPOTENCY_KEY_CHARACTERS_MAX,
  IDEMPOTENT_REPLY_BYTES_MAX,
} from '../limits.ts'
import type { Log } from '../log.ts'

export interface IdempotentCall {
  readonly tenantId: string
  /** null = the operator's. */
  readonly keyId: string | null
  /** The header; null = it was not sent. */
  readonly idempotencyKey: string | null
  /** With the body: what the request is. */
  readonly path: string
  readonly body: Uint8Array
  /** For a key that is new. */
  readonly requestId: string
}

/** How a claimed request ended. */
export type IdempotentEnd =
  /** `reply` null = too large to keep. */
  | { readonly type: 'answered'; readonly reply: StoredReply | null }
  /** Nothing is billed, or will be. */
  | { readonly type: 'unbilled' }
  /** It may be billed, and the client got nothing of it. */
  | { readonly type: 'undelivered' }
  /** The client got a part of the answer, and then left or heard of a failure. */
  | { readonly type: 'cut' }

/** A request that this edge is to answer. */
export interface IdempotentTry {
  /** The first number for its attempts. */
  readonly attempt: number
  /** Only the first call counts. Never rejects. */
  end(end: IdempotentEnd): Promise<void>
}

export type IdempotentStart =
  | { readonly type: 'try'; readonly requestId: string; readonly work: IdempotentTry }
  | { readonly type: 'replay'; readonly requestId: string; readonly reply: StoredReply }

/** More than any one try makes: each host that is asked, and what takes a lost answer back. */
const ATTEMPTS_PER_TRY = 10

export interface IdempotencyOptions {
  readonly db: Db
  readonly log: Log
}

export class Idempotency {
  readonly #options: IdempotencyOptions

  constructor(options: IdempotencyOptions) {
    this.#options = options
  }

  /**
   * null = the client sent no key. Throws `invalid_request`, `idempotency_in_progress`,
   * `idempotency_key_reused`, `idempotency_reply_unavailable`, and what the database throws: that
   * nothing is generated twice cannot be promised without it.
   */
  async begin(call: IdempotentCall): Promise<IdempotentStart | null> {
    const { tenantId, keyId, idempotencyKey, requestId } = call
    if (idempotencyKey === null) return null
    checkKey(idempotencyKey)
    const scope = { tenantId, keyId, idempotencyKey }
    const { db } = this.#options
    const bodyHash = await hashOf(call)
    const outcome = await claimIdempotencyKey(db, scope, { bodyHash, requestId })
    if (outcome.type === 'claimed') {
      const { claim } = outcome
      return { type: 'try', requestId: claim.requestId, work: this.#startTry(claim) }
    }
    return toReplay(outcome)
  }

  #startTry(claim: IdempotencyClaim): IdempotentTry {
    const { db, log } = this.#options
    const warn = (error: unknown): void =>
      log('warn', 'an idempotency key was not updated', {
        request_id: claim.requestId,
        reason: errorText(error),
      })
    const renewal = setInterval(() => {
      renewIdempotencyClaim(db, claim).catch(warn)
    }, CLAIM_RENEW_MS)
    let isOver = false
    return {
      attempt: 1 + (claim.tries - 1) * ATTEMPTS_PER_TRY,
      end: async (end) => {
        if (isOver) return
        isOver = true
        clearInterval(renewal)
        await this.#store(claim, end).catch(warn)
      },
    }
  }

  async #store(claim: IdempotencyClaim, end: IdempotentEnd): Promise<void> {
    const { db } = this.#options
    if (end.type === 'unbilled') return releaseIdempotencyClaim(db, claim)
    if (end.type === 'undelivered') {
      return endIdempotencyClaim(db, claim, { state: 'open', reply: null })
    }
    if (end.type === 'cut') return endIdempotencyClaim(db, claim, { state: 'cut', reply: null })
    const isTooLarge = (end.reply?.body.length ?? 0) > IDEMPOTENT_REPLY_BYTES_MAX
    const reply = isTooLarge ? null : end.reply
    return endIdempotencyClaim(db, claim, { state: 'done', reply })
  }
}

async function hashOf({ path, body }: IdempotentCall): Promise<string> {
  const start = new TextEncoder().encode(`${path}\n`)
  const bytes = new Uint8Array(start.length + body.length)
  bytes.set(start)
  bytes.set(body, start.length)
  return toHex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)))
}

function checkKey(key: string): void {
  if (/^[\x21-\x7e]+$/.test(key) && key.length <= IDEMPOTENCY_KEY_CHARACTERS_MAX) return
  throw new EdgeError(
    'invalid_request',
    `Idempotency-Key: must be 1 to ${IDEMPOTENCY_KEY_CHARACTERS_MAX} visible ASCII characters`,
    { param: 'Idempotency-Key' },
  )
}

function toReplay(outcome: Exclude<ClaimOutcome, { type: 'claimed' }>): IdempotentStart {
  if (outcome.type === 'running') {
    throw new EdgeError(
      'idempotency_in_progress',
      'A request with this Idempotency-Key is being answered. Please retry for its reply.',
    )
  }
  if (outcome.type === 'reused') {
    throw new EdgeError(
      'idempotency_key_reused',
      'This Idempotency-Key was used for another request. Use a new key for each request.',
      { param: 'Idempotency-Key' },
    )
  }
  const { requestId } = outcome
  if (outcome.type === 'done' && outcome.reply !== null) {
    return { type: 'replay', requestId, reply: outcome.reply }
  }
  const why =
    outcome.type === 'cut'
      ? 'broke off before its end, and is billed for what the client had got'
      : 'its reply was too large to keep'
  throw new EdgeError(
    'idempotency_reply_unavailable',
    `This Idempotency-Key stands for ${requestId}, which was answered, but ${why}. Use a new key to generate again.`,
    { param: 'Idempotency-Key' },
  )
}
