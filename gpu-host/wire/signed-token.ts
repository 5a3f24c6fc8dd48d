/**
 * A token between edge and host, held against each secret that is good at the time: while a pool
 * changes its secret there are two, and calls are signed with either.
 */
import { errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose'

/** Throws jose's error of the secret that signed it, or that none of `secrets` did. */
export async function verifySignedToken(
  token: string,
  secrets: readonly Uint8Array[],
  options: JWTVerifyOptions,
): Promise<JWTPayload> {
  let failure: unknown = new errors.JWSSignatureVerificationFailed()
  for (const secret of secrets) {
    try {
      return (await jwtVerify(token, secret, options)).payload
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error
      failure = error
    }
  }
  throw failure
}
