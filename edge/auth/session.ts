/**
 * A browser's session: a signed token that stands for an API key, so that a page need not keep the
 * key itself. It names the key's id and carries nothing of its secret; whether that key still holds
 * is asked anew with each request, so a revoked key ends its sessions as fast as itself.
 */
import { jwtVerify, SignJWT } from 'jose'
import { z } from 'zod'
import type { KeyHasher } from './api-key.ts'

const ALGORITHM = 'HS256'
const AUDIENCE = 'nozzle-pages'
const TOKEN_BYTES_MAX = 1024
/** A token that nobody renews is over after this. */
export const SESSION_TTL_S = 3600
/** However often it is renewed, the key is asked for again after this. */
const SIGN_IN_TTL_S = 12 * 3600
/** Age from which a request renews it. */
const RENEW_AFTER_S = 600

const claims = z.object({
  sub: z.string().min(1).max(80),
  iat: z.int(),
  exp: z.int(),
  /** Unix seconds of the sign-in. */
  since: z.int(),
})

export interface Session {
  readonly keyId: string
  /** Unix seconds. */
  readonly issuedS: number
  readonly sinceS: number
}

export interface SessionsOptions {
  /** The signing secret is derived with it, apart from what keys are hashed to. */
  readonly hasher: KeyHasher
  readonly nowMs: () => number
}

export class Sessions {
  readonly #options: SessionsOptions
  #secret: Promise<Uint8Array> | null = null

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  /** The token of a sign-in that happens now. */
  begin(keyId: string): Promise<string> {
    return this.#sign(keyId, this.#nowS())
  }

  /** null = as good as it was. */
  async renew({ keyId, issuedS, sinceS }: Session): Promise<string | null> {
    return this.#nowS() - issuedS < RENEW_AFTER_S ? null : this.#sign(keyId, sinceS)
  }

  /** null = not one of this pool's, or over. */
  async verify(token: string): Promise<Session | null> {
    if (token.length > TOKEN_BYTES_MAX) return null
    try {
      const { payload } = await jwtVerify(token, await this.#key(), {
        algorithms: [ALGORITHM],
        audience: AUDIENCE,
        currentDate: new Date(this.#options.nowMs()),
      })
      const { sub, iat, since } = claims.parse(payload)
      return { keyId: sub, issuedS: iat, sinceS: since }
    } catch {
      return null
    }
  }

  async #sign(keyId: string, sinceS: number): Promise<string> {
    const nowS = this.#nowS()
    return new SignJWT({ since: sinceS })
      .setProtectedHeader({ alg: ALGORITHM })
      .setSubject(keyId)
      .setAudience(AUDIENCE)
      .setIssuedAt(nowS)
      .setExpirationTime(Math.min(nowS + SESSION_TTL_S, sinceS + SIGN_IN_TTL_S))
      .sign(await this.#key())
  }

  /** No API key begins like this, so none has this hash. */
  #key(): Promise<Uint8Array> {
    this.#secret ??= this.#options.hasher
      .hash('sessions of pages')
      .then((hash) => new TextEncoder().encode(hash))
    return this.#secret
  }

  #nowS(): number {
    return Math.floor(this.#options.nowMs() / 1000)
  }
}
