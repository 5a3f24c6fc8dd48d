/** Signs grants: what a host is allowed to do, for one call, for GRANT_TTL_S seconds. */
import { SignJWT } from 'jose'
import { GRANT_ALGORITHM, GRANT_TTL_S, type GrantClaims } from '#protocol'
import { toHex } from '../auth/api-key.ts'

export type GrantCall = Pick<
  GrantClaims,
  'route' | 'request_id' | 'tenant_id' | 'key_id' | 'adapter_digest' | 'max_tokens'
> & {
  /** null = a streamed upload, which no hash can cover beforehand. */
  readonly body: string | null
}

export class GrantSigner {
  readonly #secret: Uint8Array
  readonly #nowMs: () => number
  #key: Awaited<ReturnType<typeof crypto.subtle.importKey>> | null = null

  constructor(secret: Uint8Array, nowMs: () => number) {
    this.#secret = secret
    this.#nowMs = nowMs
  }

  /** The `authorization` header of a call. Sign each attempt anew: a host takes a nonce once. */
  async sign({ body, ...call }: GrantCall): Promise<string> {
    const iat = Math.floor(this.#nowMs() / 1000)
    const claims: GrantClaims = {
      aud: 'host',
      method: 'POST',
      ...call,
      body_sha256: body === null ? null : await sha256Hex(body),
      nonce: crypto.randomUUID(),
      iat,
      exp: iat + GRANT_TTL_S,
    }
    this.#key ??= await crypto.subtle.importKey(
      'raw',
      new Uint8Array(this.#secret),
      { name: 'HMAC', hash: 'SHA-256' },
      false,
      ['sign'],
    )
    const header = { alg: GRANT_ALGORITHM }
    return `Grant ${await new SignJWT(claims).setProtectedHeader(header).sign(this.#key)}`
  }
}

async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return toHex(new Uint8Array(digest))
}
