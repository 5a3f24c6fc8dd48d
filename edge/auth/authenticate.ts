/**
 * Who is calling: bearer text, or a browser's session → identity. A key with a wrong check never
 * reaches the database; a row, or its absence, is believed for KEY_TTL_MS, and a row during an
 * outage of the database as LookupCache allows. Rows are looked up by the keyed hash of the whole
 * key, never by the id in it: so an id that nobody has and a secret that is wrong take the same way
 * and the same time, and hear the same answer. Why a key was refused goes to the log.
 */
import type { Db } from '#db/database.ts'
import { type ApiKeyWithTenant, findApiKey, findApiKeyByHash } from '#db/queries/api-keys.ts'
import type { ScopeLimits } from '#db/queries/limits.ts'
import { EdgeError } from '../errors.ts'
import type { KeepAlive } from '../keep-alive.ts'
import { CACHE_ENTRIES_MAX, KEY_TTL_MS } from '../limits.ts'
import { LookupCache } from '../lookup-cache.ts'
import type { EdgeMetrics } from '../metrics.ts'
import type { OutageWindowOptions } from '../outage-window.ts'
import { TtlCache } from '../ttl-cache.ts'
import { isSameHash, type KeyHasher, parseApiKey } from './api-key.ts'
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

type RefusalReason = 'malformed' | 'unknown' | 'revoked' | 'session_over'

/** `nowMs` monotonic. */
export interface AuthenticatorOptions extends OutageWindowOptions {
  readonly db: Db
  readonly hasher: KeyHasher
  readonly operatorKey: string
  readonly sessions: Sessions
  readonly metrics: EdgeMetrics
}

export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #operatorId: string
  #operatorHash: string | null = null
  /** By hash. */
  readonly #rows: LookupCache<ApiKeyWithTenant>
  /** By id: a session has no more of its key. */
  readonly #sessionRows: LookupCache<ApiKeyWithTenant>
  /** By hash, or id of a session; apart, since strangers can ask for any number of them. */
  readonly #unknown: TtlCache<true>

  constructor(options: AuthenticatorOptions) {
    this.#options = options
    this.#operatorId = parseApiKey(options.operatorKey)?.id ?? ''
    const { nowMs } = options
    this.#rows = new LookupCache({ ...options, ttlMs: KEY_TTL_MS })
    this.#sessionRows = new LookupCache({ ...options, ttlMs: KEY_TTL_MS })
    this.#unknown = new TtlCache({ ttlMs: KEY_TTL_MS, entriesMax: CACHE_ENTRIES_MAX, nowMs })
  }

  /** Throws `missing_api_key`, `invalid_api_key` or `database_unavailable`. */
  async authenticate(authorization: string | null, keepAlive: KeepAlive): Promise<Identity> {
    const [, session] = /^Session +(\S+) *$/i.exec(authorization ?? '') ?? []
    if (session !== undefined) return this.#ofSession(session, keepAlive)
    const [, text] = /^Bearer +(\S+) *$/i.exec(authorization ?? '') ?? []
    if (text === undefined) {
      throw new EdgeError(
        'missing_api_key',
        'No API key was sent. Send it as the header "Authorization: Bearer nz_…".',
      )
    }
    if (parseApiKey(text) === null) {
      this.#options.metrics.keyLookups.add({ from: 'refused' })
      throw refusal('malformed')
    }
    const { db, hasher } = this.#options
    const hash = await hasher.hash(text)
    if (await this.#isOperator(hash)) return { kind: 'operator' }
    const row = await this.#find(this.#rows, hash, () => findApiKeyByHash(db, hash), keepAlive)
    if (row === null || !isSameHash(row.keyHash, hash)) throw refusal('unknown')
    return toIdentity(row)
  }

  /**
   * Whether the key of an identity still holds, as far as this edge can find out within KEY_TTL_MS:
   * where the database does not answer it is left as it was.
   */
  async stillHolds(identity: Identity): Promise<boolean> {
    if (identity.kind === 'operator') return true
    const { db } = this.#options
    const { keyId } = identity
    try {
      const row = await this.#find(this.#sessionRows, keyId, () => findApiKey(db, keyId))
      return row !== null && row.revokedAt === null
    } catch {
      return true
    }
  }

  /** This edge reads the key's row anew before it lets it in again; others within KEY_TTL_MS. */
  forget(keyId: string): void {
    this.#rows.deleteWhere(({ id }) => id === keyId)
    this.#sessionRows.delete(keyId)
    this.#unknown.delete(keyId)
  }

  /** As `forget`, for each key of the tenant. */
  forgetTenant(tenantId: string): void {
    for (const rows of [this.#rows, this.#sessionRows]) {
      rows.deleteWhere((row) => row.tenantId === tenantId)
    }
  }

  /** Its secret was seen at the sign-in; whether the key holds is asked each time. */
  async #ofSession(token: string, keepAlive: KeepAlive): Promise<Identity> {
    const session = await this.#options.sessions.verify(token)
    if (session === null) throw refusal('session_over')
    if (session.keyId === this.#operatorId) return { kind: 'operator' }
    const { db } = this.#options
    const { keyId } = session
    const row = await this.#find(this.#sessionRows, keyId, () => findApiKey(db, keyId), keepAlive)
    if (row === null) throw refusal('unknown')
    return toIdentity(row)
  }

  async #isOperator(hash: string): Promise<boolean> {
    const { hasher, operatorKey } = this.#options
    this.#operatorHash ??= await hasher.hash(operatorKey)
    return isSameHash(this.#operatorHash, hash)
  }

  async #find(
    rows: LookupCache<ApiKeyWithTenant>,
    of: string,
    look: () => Promise<ApiKeyWithTenant | null>,
    keepAlive?: KeepAlive,
  ): Promise<ApiKeyWithTenant | null> {
    const { metrics } = this.#options
    if (this.#unknown.get(of)) {
      metrics.keyLookups.add({ from: 'cache' })
      return null
    }
    const found = await rows.find(of, look, keepAlive)
    metrics.keyLookups.add({ from: found?.from ?? 'database' })
    if (found === null) this.#unknown.set(of, true)
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
