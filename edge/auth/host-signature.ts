/**
 * Proof that a call comes from a host of this pool: `authorization: Host <JWS>`, good for one
 * method and route, one body and one nonce within its 30 s. It is checked before the body is read,
 * so that strangers can make this edge hold none. Nonces are remembered by this process or isolate
 * alone; beyond it a replay changes nothing, since usage events are unique by request id and a
 * heartbeat only repeats itself.
 */
import {
  GRANT_ALGORITHM,
  GRANT_SKEW_S,
  GRANT_TTL_S,
  type GrantClaims,
  grantClaims,
} from '#protocol'
import { NonceBook } from '#wire/nonce-book.ts'
import { verifySignedToken } from '#wire/signed-token.ts'
import { toHex } from '../digests.ts'
import { EdgeError } from '../errors.ts'
import { NONCES_MAX } from '../limits.ts'
import { isSameHash } from './api-key.ts'

const TOKEN_BYTES_MAX = 4096

export class HostVerifier {
  readonly #secrets: readonly Uint8Array[]
  readonly #nowMs: () => number
  readonly #nonces = new NonceBook(NONCES_MAX)

  /** @param secrets any of which may have signed. */
  constructor(secrets: readonly Uint8Array[], nowMs: () => number) {
    this.#secrets = secrets
    this.#nowMs = nowMs
  }

  /**
   * Checks everything but the body and uses the nonce up. Throws `host_signature_invalid`, whose
   * cause says what is wrong, or `overloaded` when too many nonces are remembered.
   */
  async verify(
    authorization: string | null,
    { method, route }: Pick<GrantClaims, 'method' | 'route'>,
  ): Promise<GrantClaims> {
    const claims = await this.#verifyToken(authorization)
    const nowS = this.#nowMs() / 1000
    if (claims.route !== route || claims.method !== method) {
      throw invalid('it is for another route')
    }
    if (claims.exp - claims.iat > GRANT_TTL_S || claims.iat > nowS + GRANT_SKEW_S) {
      throw invalid('it is valid for longer than it may be')
    }
    this.#useNonce(claims, nowS)
    return claims
  }

  async #verifyToken(authorization: string | null): Promise<GrantClaims> {
    const [, token] = /^Host ([A-Za-z0-9_.-]+)$/.exec(authorization ?? '') ?? []
    if (token === undefined || token.length > TOKEN_BYTES_MAX) throw invalid('there is none')
    try {
      const payload = await verifySignedToken(token, this.#secrets, {
        algorithms: [GRANT_ALGORITHM],
        audience: 'edge',
        clockTolerance: GRANT_SKEW_S,
        currentDate: new Date(this.#nowMs()),
        requiredClaims: ['iat', 'exp'],
      })
      return grantClaims.parse(payload)
    } catch (error) {
      throw invalid('it does not verify', error)
    }
  }

  #useNonce({ nonce, exp }: GrantClaims, nowS: number): void {
    const outcome = this.#nonces.use(nonce, exp + GRANT_SKEW_S, nowS)
    if (outcome === 'used') throw invalid('it was used before')
    if (outcome === 'full') throw new EdgeError('overloaded', 'too many host calls at once')
  }
}

/** Throws `host_signature_invalid` unless the call was signed with exactly this body. */
export async function assertSignedBody(claims: GrantClaims, body: Uint8Array): Promise<void> {
  const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(body))
  if (isSameHash(claims.body_sha256 ?? '', toHex(new Uint8Array(digest)))) return
  throw invalid('it is for another body')
}

function invalid(reason: string, cause?: unknown): EdgeError {
  return new EdgeError('host_signature_invalid', 'the call is not signed by a host of this pool', {
    cause: new Error(`signature: ${reason}`, { cause }),
  })
}
