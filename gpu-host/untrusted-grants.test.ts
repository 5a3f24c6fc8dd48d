/**
 * Whatever stands in the header of a call, the verifier takes the grant that was signed, as it was
 * signed and once, or refuses with one of its own codes; nothing else comes out of it.
 */
import fc from 'fast-check'
import { SignJWT } from 'jose'
import { expect, it } from 'vitest'
import {
  FUZZ_SEED,
  FUZZ_TIMEOUT_MS,
  fuzzParameters,
  reportFuzz,
} from '../native/test/support/fuzz.ts'
import { systemClock } from './clock.ts'
import { errorCodeOf } from './errors.ts'
import { GrantVerifier } from './grants.ts'
import { GRANT_ALGORITHM, GRANT_TTL_S, type GrantClaims, HOST_ROUTES } from './protocol.ts'

const SECRET = new TextEncoder().encode('a pool secret that is long enough to be one')
const ROUTE = HOST_ROUTES.generate
const REFUSALS = ['grant_invalid', 'grant_expired', 'grant_replayed', 'grant_mismatch']
/** Of a soak's time, for each of the two. */
const SHARE = 1 / 2

const nowS = Math.floor(systemClock.nowMs() / 1000)
const claims: GrantClaims = {
  aud: 'host',
  method: 'POST',
  route: ROUTE,
  request_id: 'req_1',
  tenant_id: 'ten_1',
  key_id: 'key_1',
  adapter_digest: `sha256:${'0'.repeat(64)}`,
  max_tokens: 5,
  body_sha256: '0'.repeat(64),
  nonce: 'a nonce of sixteen or more',
  iat: nowS,
  exp: nowS + GRANT_TTL_S,
}
/** As old as the grants, which it would refuse otherwise. */
const clock = { ...systemClock, nowMs: () => nowS * 1000 }

function sign(payload: object): Promise<string> {
  return new SignJWT({ ...payload }).setProtectedHeader({ alg: GRANT_ALGORITHM }).sign(SECRET)
}

async function outcome(authorization: string | undefined): Promise<GrantClaims | string> {
  try {
    return await new GrantVerifier([SECRET], clock).verify(authorization, {
      method: 'POST',
      route: ROUTE,
    })
  } catch (error) {
    const code = errorCodeOf(error)
    if (code === null || !REFUSALS.includes(code)) throw error
    return code
  }
}

it(
  'takes no header but the one that was signed',
  async () => {
    const token = await sign(claims)
    expect(await outcome(`Grant ${token}`)).toEqual(claims)
    const [head = '', payload = '', signature = ''] = token.split('.')
    const base64 = (value: unknown): string =>
      Buffer.from(JSON.stringify(value)).toString('base64url')
    const algorithm = fc.constantFrom('none', 'None', 'HS512', 'RS256', 'ES256', '', 'hs256', 'dir')
    const header = fc.oneof(
      fc.string({ maxLength: 200 }),
      fc
        .record({ at: fc.nat(token.length - 1), sign: fc.string({ minLength: 0, maxLength: 2 }) })
        .map(({ at, sign }) => `Grant ${token.slice(0, at)}${sign}${token.slice(at + 1)}`),
      fc.nat(token.length - 1).map((length) => `Grant ${token.slice(0, length)}`),
      algorithm.map((alg) => `Grant ${base64({ alg })}.${payload}.${signature}`),
      algorithm.map((alg) => `Grant ${base64({ alg })}.${payload}.`),
      fc.jsonValue().map((value) => `Grant ${head}.${base64(value)}.${signature}`),
      fc.jsonValue().map((value) => `Grant ${base64(value)}.${payload}.${signature}`),
      fc.constantFrom('Bearer', 'grant', 'Grant  ', 'Host').map((word) => `${word} ${token}`),
    )
    let executions = 0
    await fc.assert(
      fc.asyncProperty(header, async (authorization) => {
        executions += 1
        const found = await outcome(authorization)
        // The last sign of base64url has bits to spare: another one may say the same bytes.
        if (typeof found !== 'string') expect(found).toEqual(claims)
        return typeof found !== 'string'
          ? authorization.startsWith(`Grant ${head}.${payload}.`)
          : true
      }),
      fuzzParameters(1500, SHARE),
    )
    reportFuzz('grant verifier, forged', { seed: FUZZ_SEED, executions })
  },
  FUZZ_TIMEOUT_MS,
)

it(
  'takes no signed claims but sound ones, for this route and this time',
  async () => {
    const fields = fc.constantFrom(...Object.keys(claims), '__proto__', 'nbf', 'iss', 'crit')
    const value = fc.oneof(
      fc.jsonValue(),
      fc.integer({ min: nowS - 100, max: nowS + 100 }),
      fc.constantFrom('edge', 'host', HOST_ROUTES.drain, 'x'.repeat(100), -1, 2 ** 53, null),
    )
    const changes = fc.dictionary(fields, value, { minKeys: 1, maxKeys: 3 })
    let executions = 0
    let accepted = 0
    await fc.assert(
      fc.asyncProperty(changes, async (change) => {
        executions += 1
        const token = await sign({ ...claims, ...change }).catch(() => null)
        if (token === null) return
        const found = await outcome(`Grant ${token}`)
        if (typeof found === 'string') return
        accepted += 1
        expect(found.route).toBe(ROUTE)
        expect(found.method).toBe('POST')
        expect(found.aud).toBe('host')
        expect(found.exp - found.iat).toBeLessThanOrEqual(GRANT_TTL_S)
        expect(found.iat).toBeLessThanOrEqual(nowS + 5)
        expect(found.exp).toBeGreaterThanOrEqual(nowS - 5)
      }),
      fuzzParameters(1000, SHARE),
    )
    expect(accepted).toBeLessThan(executions / 2)
    reportFuzz('grant verifier, signed', { seed: FUZZ_SEED, executions, accepted })
  },
  FUZZ_TIMEOUT_MS,
)
