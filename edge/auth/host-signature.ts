/**
 * Proof that a call comes from a host of this pool: `authorization: Host <JWS>`, good for one
 * route, one body and one nonce within its 30 s. Nonces are remembered by this process or isolate
 * alone; beyond it a replay changes nothing, since usage events are unique by request id and a
 * heartbeat only repeats itself.
 */
import { jwtVerify } from 'jose'
import {
  GRANT_ALGORITHM,
  GRANT_SKEW_S,
  GRANT_TTL_S,
  type GrantClaims,
  grantClaims,
} from '#protocol'
import { EdgeError } from '../errors.ts'
import { NONCES_MAX } from '../limits.ts'
import { isSameHash, toHex } from './api-key.ts'

const TOKEN_BYTES_MAX = 4096

export class HostVerifier {
  readonly #secret: Uint8Array
  readonly #nowMs: () => number
  /** Nonce → second after which its token is refused anyway; oldest first. */
  readonly #nonces = new Map<string, number>()

  constructor(secret: Uint8Array, nowMs: () => number) {
    this.#secret = secret
    this.#nowMs = nowMs
  }

  /** Throws `host_signature_invalid`; its cause says what is wrong. */
  async verify(
    authorization: string | null,
    route: string,
    body: Uint8Array,
  ): Promise<GrantClaims> {
    const claims = await this.#verifyToken(authorization)
    const nowS = this.#nowMs() / 1000
    if (claims.route !== route) throw invalid('it is for another route')
    if (claims.exp - claims.iat > GRANT_TTL_S || claims.iat > nowS + GRANT_SKEW_S) {
      throw invalid('it is valid for longer than it may be')
    }
    const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(body))
    if (!isSameHash(claims.body_sha256 ?? '', toHex(new Uint8Array(digest)))) {
      throw invalid('it is for another body')
    }
    this.#useNonce(claims, nowS)
    return claims
  }

  async #verifyToken(authorization: string | null): Promise<GrantClaims> {
    const [, token] = /^Host ([A-Za-z0-9_.-]+)$/.exec(authorization ?? '') ?? []
    if (token === undefined || token.length > TOKEN_BYTES_MAX) throw invalid('there is none')
    try {
      const { payload } = await jwtVerify(token, this.#secret, {
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
    for (const [known, untilS] of this.#nonces) {
      if (untilS >= nowS) break
      this.#nonces.delete(known)
    }
    if (this.#nonces.has(nonce)) throw invalid('it was used before')
    if (this.#nonces.size >= NONCES_MAX) {
      throw new EdgeError('overloaded', 'too many host calls at once')
    }
    this.#nonces.set(nonce, exp + GRANT_SKEW_S)
  }
}

function invalid(reason: string, cause?: unknown): EdgeError {
  return new EdgeError('host_signature_invalid', 'the call is not signed by a host of this pool', {
    cause: new Error(`signature: ${reason}`, { cause }),
  })
}
