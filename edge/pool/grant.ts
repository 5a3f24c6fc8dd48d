/** Signs grants: what a host is allowed to do, for one call, for GRANT_TTL_S seconds. */
import { base64url } from 'jose'
import { GRANT_ALGORITHM, GRANT_TTL_S, type GrantClaims } from '#protocol'
import { type Digest, type Digests, toHex, webDigests } from '../digests.ts'

export type GrantCall = Pick<
  GrantClaims,
  'route' | 'request_id' | 'tenant_id' | 'key_id' | 'adapter_digest' | 'max_tokens'
> & {
  /** null = a streamed upload, which no hash can cover beforehand. */
  readonly body: string | null
}

const HEADER = base64url.encode(JSON.stringify({ alg: GRANT_ALGORITHM }))

export class GrantSigner {
  readonly #digests: Digests
  readonly #hmac: Digest
  readonly #nowMs: () => number

  constructor(secret: Uint8Array, nowMs: () => number, digests: Digests = webDigests) {
    this.#digests = digests
    this.#hmac = digests.hmac(secret)
    this.#nowMs = nowMs
  }

  /** The `authorization` header of a call. Sign each attempt anew: a host takes a nonce once. */
  async sign({ body, ...call }: GrantCall): Promise<string> {
    const iat = Math.floor(this.#nowMs() / 1000)
    const claims: GrantClaims = {
      aud: 'host',
      method: 'POST',
      ...call,
      body_sha256: body === null ? null : toHex(await this.#digests.sha256(body)),
      nonce: crypto.randomUUID(),
      iat,
      exp: iat + GRANT_TTL_S,
    }
    // A compact JWS by hand: a library's checks of what was just made take longer than its making.
    const signed = `${HEADER}.${base64url.encode(JSON.stringify(claims))}`
    const signature = await this.#hmac(signed)
    return `Grant ${signed}.${base64url.encode(signature)}`
  }
}
