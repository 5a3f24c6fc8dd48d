/**
 * Who is calling: bearer text, or a browser's session → identity. A key with a wrong check never
 * reaches the database; a row, or its absence, is believed for KEY_TTL_MS, and a row during an
 * outage of the database as LookupCache allows; the hash is compared on each request. Why a key was
 * refused goes to the log, the caller hears one answer for all reasons.
 */
import type { Db } from '#db/database.ts'
import { type ApiKeyWithTenant, findApiKey } from '#db/queries/api-keys.ts'
import type { ScopeLimits } from '#db/queries/limits.ts'
import { EdgeError } from '../errors.ts'
import { CACHE_ENTRIES_MAX, KEY_TTL_MS } from '../limits.ts'
import { LookupCache } from '../lookup-cache.ts'
import type { EdgeMetrics } from '../metrics.ts'
import { TtlCache } from '../ttl-cache.ts'
import { hashApiKey, isSameHash, parseApiKey } from './api-key.ts'
import type { Sessions } from './session.ts'

export const SCOPES = ['generate', 'deploy'] as const
export type Scope = (typeof SCOPES)[number]

export type Identity =
  /** May do everything, and has no tenant of its own. */
  | { readonly kind: 'operator' }
  | {
      readonly kind: 'tenant'
      readonly keyId: string
      readonly tenantId: string
      readonly tenantName: string
      readonly tenantWeight: number
      readonly scopes: readonly string[]
      /** The tenant's and the key's own, where they are set. */
      readonly limits: readonly ScopeLimits[]
    }

type RefusalReason = 'malformed' | 'unknown' | 'wrong_secret' | 'revoked' | 'session_over'

export interface AuthenticatorOptions {
  readonly db: Db
  readonly keyPepper: string
  readonly operatorKey: string
  readonly sessions: Sessions
  readonly metrics: EdgeMetrics
  /** Monotonic. */
  readonly nowMs: () => number
  /** How long the database is known to be away; null while it answers. */
  readonly downForMs: () => number | null
}

export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #operatorId: string
  #operatorHash: string | null = null
  readonly #rows: LookupCache<ApiKeyWithTenant>
  /** Apart, since strangers can ask for any number of them. */
  readonly #unknown: TtlCache<true>

  constructor(options: AuthenticatorOptions) {
    this.#options = options
    this.#operatorId = parseApiKey(options.operatorKey)?.id ?? ''
    const { nowMs, downForMs } = options
    this.#rows = new LookupCache({ ttlMs: KEY_TTL_MS, nowMs, downForMs })
    this.#unknown = new TtlCache({ ttlMs: KEY_TTL_MS, entriesMax: CACHE_ENTRIES_MAX, nowMs })
  }

  /** Throws `missing_api_key`, `invalid_api_key` or `database_unavailable`. */
  async authenticate(authorization: string | null): Promise<Identity> {
    const [, session] = /^Session +(\S+) *$/i.exec(authorization ?? '') ?? []
    if (session !== undefined) return this.#ofSession(session)
    const [, text] = /^Bearer +(\S+) *$/i.exec(authorization ?? '') ?? []
    if (text === undefined) {
      throw new EdgeError(
        'missing_api_key',
        'No API key was sent. Send it as the header "Authorization: Bearer nz_…".',
      )
    }
    const key = parseApiKey(text)
    if (key === null) {
      this.#options.metrics.keyLookups.add({ from: 'refused' })
      throw refusal('malformed')
    }
    const hash = await hashApiKey(this.#options.keyPepper, text)
    if (key.id === this.#operatorId) return this.#asOperator(hash)
    const row = await this.#findRow(key.id)
    if (row === null) throw refusal('unknown')
    if (!isSameHash(row.keyHash, hash)) throw refusal('wrong_secret')
    return toIdentity(row)
  }

  /** This edge reads the key's row anew before it lets it in again; others within KEY_TTL_MS. */
  forget(keyId: string): void {
    this.#rows.delete(keyId)
    this.#unknown.delete(keyId)
  }

  /** As `forget`, for each key of the tenant. */
  forgetTenant(tenantId: string): void {
    this.#rows.deleteWhere((row) => row.tenantId === tenantId)
  }

  /** Its secret was seen at the sign-in; whether the key holds is asked each time. */
  async #ofSession(token: string): Promise<Identity> {
    const session = await this.#options.sessions.verify(token)
    if (session === null) throw refusal('session_over')
    if (session.keyId === this.#operatorId) return { kind: 'operator' }
    const row = await this.#findRow(session.keyId)
    if (row === null) throw refusal('unknown')
    return toIdentity(row)
  }

  async #asOperator(hash: string): Promise<Identity> {
    const { keyPepper, operatorKey } = this.#options
    this.#operatorHash ??= await hashApiKey(keyPepper, operatorKey)
    if (!isSameHash(this.#operatorHash, hash)) throw refusal('wrong_secret')
    return { kind: 'operator' }
  }

  async #findRow(keyId: string): Promise<ApiKeyWithTenant | null> {
    const { db, metrics } = this.#options
    if (this.#unknown.get(keyId)) {
      metrics.keyLookups.add({ from: 'cache' })
      return null
    }
    const found = await this.#rows.find(keyId, () => findApiKey(db, keyId))
    metrics.keyLookups.add({ from: found?.from ?? 'database' })
    if (found === null) this.#unknown.set(keyId, true)
    return found?.value ?? null
  }
}

/** Throws for a key that was revoked. */
function toIdentity(row: ApiKeyWithTenant): Identity {
  if (row.revokedAt !== null) throw refusal('revoked')
  const { id: keyId, tenantId, tenantName, tenantWeight, scopes, limits } = row
  return { kind: 'tenant', keyId, tenantId, tenantName, tenantWeight, scopes, limits }
}

function refusal(reason: RefusalReason): EdgeError {
  return new EdgeError(
    'invalid_api_key',
    'Incorrect API key provided. It may be mistyped, revoked, or of another pool.',
    { cause: new Error(`the key is ${reason}`) },
  )
}

/** Throws `permission_denied` unless the key may do this. */
export function requireScope(identity: Identity, scope: Scope): void {
  if (identity.kind === 'operator' || identity.scopes.includes(scope)) return
  throw new EdgeError('permission_denied', `This API key lacks the scope "${scope}".`)
}

/** Throws `permission_denied` unless the operator calls. */
export function requireOperator(identity: Identity): void {
  if (identity.kind === 'operator') return
  throw new EdgeError('permission_denied', 'Only the operator key may do this.')
}
