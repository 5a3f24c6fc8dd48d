/**
 * Who may call the host, and how the host proves itself to the edge. A grant is good for one call:
 * one method and route, one body, one nonce, within its 30 seconds. The algorithm is pinned; the
 * signature is checked before anything in the token is believed.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { errors, SignJWT } from 'jose'
import type { Clock } from './clock.ts'
import { HostError } from './errors.ts'
import {
  GRANT_ALGORITHM,
  GRANT_SKEW_S,
  GRANT_TTL_S,
  type GrantClaims,
  grantClaims,
} from './protocol.ts'
import { NonceBook } from './wire/nonce-book.ts'
import { verifySignedToken } from './wire/signed-token.ts'

/** Far above what one host can be asked within a grant's life. */
const NONCES_MAX = 200_000
const GRANT_BYTES_MAX = 4096

export class GrantVerifier {
  readonly #secrets: readonly Uint8Array[]
  readonly #clock: Clock
  readonly #startedS: number
  readonly #nonces = new NonceBook(NONCES_MAX)

  /** @param secrets any of which may have signed. */
  constructor(secrets: readonly Uint8Array[], clock: Clock) {
    this.#secrets = secrets
    this.#clock = clock
    this.#startedS = Math.floor(clock.nowMs() / 1000)
  }

  /**
   * Checks everything but the body and uses the nonce up. Throws `grant_invalid`, `grant_expired`,
   * `grant_replayed`, `grant_mismatch`, or `queue_full` when too many nonces are remembered.
   */
  async verify(
    authorization: string | undefined,
    { method, route }: Pick<GrantClaims, 'method' | 'route'>,
  ): Promise<GrantClaims> {
    const claims = await this.#verifySignature(authorization)
    const nowS = this.#clock.nowMs() / 1000
    if (claims.exp - claims.iat > GRANT_TTL_S || claims.iat > nowS + GRANT_SKEW_S) {
      throw new HostError('grant_invalid', 'the grant is valid for longer than grants may be')
    }
    // Nonces do not outlive the process, so neither may a grant of the time before it.
    if (claims.exp + GRANT_SKEW_S < nowS || claims.iat < this.#startedS) {
      throw new HostError('grant_expired', 'the grant has expired')
    }
    if (claims.route !== route || claims.method !== method) {
      throw new HostError('grant_mismatch', 'the grant is for another route', { param: 'route' })
    }
    this.#useNonce(claims, nowS)
    return claims
  }

  async #verifySignature(authorization: string | undefined): Promise<GrantClaims> {
    const [, token] = /^Grant ([A-Za-z0-9_.-]+)$/.exec(authorization ?? '') ?? []
    if (token === undefined || token.length > GRANT_BYTES_MAX) {
      throw new HostError('grant_invalid', 'the request carries no grant')
    }
    let payload: unknown
    try {
      payload = await verifySignedToken(token, this.#secrets, {
        algorithms: [GRANT_ALGORITHM],
        audience: 'host',
        clockTolerance: GRANT_SKEW_S,
        currentDate: new Date(this.#clock.nowMs()),
        requiredClaims: ['iat', 'exp'],
      })
    } catch (error) {
      if (error instanceof errors.JWTExpired) {
        throw new HostError('grant_expired', 'the grant has expired')
      }
      throw new HostError('grant_invalid', 'the grant is not valid', { cause: error })
    }
    const claims = grantClaims.safeParse(payload)
    if (claims.success) return claims.data
    throw new HostError('grant_invalid', 'the grant lacks a claim', { cause: claims.error })
  }

  #useNonce({ nonce, exp }: GrantClaims, nowS: number): void {
    const outcome = this.#nonces.use(nonce, exp + GRANT_SKEW_S, nowS)
    if (outcome === 'used') throw new HostError('grant_replayed', 'the grant was used before')
    if (outcome === 'full') throw new HostError('queue_full', 'too many requests at once')
  }
}

/** Throws `grant_mismatch` unless the grant covers exactly this body. */
export function assertBodyCovered(claims: GrantClaims, body: Uint8Array): void {
  const actual = createHash('sha256').update(body).digest()
  const granted = Buffer.from(claims.body_sha256 ?? '', 'hex')
  if (granted.length === actual.length && timingSafeEqual(granted, actual)) return
  throw new HostError('grant_mismatch', 'the grant is for another body', { param: 'body_sha256' })
}

/** The `authorization` header of a call from this host to the edge. */
export async function signForEdge(
  secret: Uint8Array,
  clock: Clock,
  call: { readonly route: string; readonly requestId: string; readonly body: string },
): Promise<string> {
  const iat = Math.floor(clock.nowMs() / 1000)
  const claims: GrantClaims = {
    aud: 'edge',
    method: 'POST',
    route: call.route,
    request_id: call.requestId,
    tenant_id: null,
    key_id: null,
    adapter_digest: null,
    max_tokens: null,
    body_sha256: createHash('sha256').update(call.body).digest('hex'),
    nonce: randomUUID(),
    iat,
    exp: iat + GRANT_TTL_S,
  }
  const token = await new SignJWT(claims).setProtectedHeader({ alg: GRANT_ALGORITHM }).sign(secret)
  return `Host ${token}`
}
