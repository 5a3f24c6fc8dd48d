import { errors, SignJWT } from 'jose'
import { describe, expect, it } from 'vitest'
import { verifySignedToken } from './signed-token.ts'

const secretOf = (name: string): Uint8Array => new TextEncoder().encode(name.padEnd(32, '.'))
const [OWN, ALSO, OTHER] = [secretOf('own'), secretOf('also'), secretOf('other')]
const OPTIONS = { algorithms: ['HS256'], audience: 'host' }

function sign(secret: Uint8Array, { aud = 'host', exp = '1m' } = {}): Promise<string> {
  const token = new SignJWT({ aud, nonce: 'n' }).setProtectedHeader({ alg: 'HS256' })
  return token.setExpirationTime(exp).sign(secret)
}

describe('a token', () => {
  it('may be signed with any of the secrets, and with no other', async () => {
    const verify = async (secret: Uint8Array) =>
      (await verifySignedToken(await sign(secret), [OWN, ALSO], OPTIONS)).nonce
    expect(await verify(OWN)).toBe('n')
    expect(await verify(ALSO)).toBe('n')
    await expect(verify(OTHER)).rejects.toThrow(errors.JWSSignatureVerificationFailed)
    const token = await sign(OWN)
    await expect(verifySignedToken(token, [], OPTIONS)).rejects.toThrow(errors.JOSEError)
  })

  it('is held to the same whichever secret signed it', async () => {
    for (const secret of [OWN, ALSO]) {
      const old = await sign(secret, { exp: '-1m' })
      await expect(verifySignedToken(old, [OWN, ALSO], OPTIONS)).rejects.toThrow(errors.JWTExpired)
      const foreign = await sign(secret, { aud: 'edge' })
      await expect(verifySignedToken(foreign, [OWN, ALSO], OPTIONS)).rejects.toThrow(
        errors.JWTClaimValidationFailed,
      )
    }
  })
})
