/**
 * Signed calls as an attacker would make them: of a good one what can be altered without the
 * secret, other algorithms and secrets, and tokens that the pool did sign, for something else. None
 * may be let in.
 */
import { createHash, createHmac, randomUUID } from 'node:crypto'
import type { GrantClaims } from '../../protocol.ts'
import { createRandom } from './random.ts'

export interface ForgedCall {
  readonly kind: string
  readonly token: string
  /** What is sent with it, and where to. */
  readonly body: string
  readonly method: string
  readonly route: string
}

export interface ForgeryTarget {
  readonly audience: GrantClaims['aud']
  readonly route: string
  readonly otherRoute: string
  readonly secret: string
  readonly nowMs: () => number
}

const encode = (value: object | string): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

/** A compact JWS. `hash` null = without a signature. */
export function signJws(
  header: object,
  claims: object | string,
  secret: string,
  hash: string | null = 'sha256',
): string {
  const input = `${encode(header)}.${encode(claims)}`
  const signature = hash === null ? '' : createHmac(hash, secret).update(input).digest('base64url')
  return `${input}.${signature}`
}

export function goodClaims(target: ForgeryTarget, body: string): GrantClaims {
  const iat = Math.floor(target.nowMs() / 1000)
  return {
    aud: target.audience,
    method: 'POST',
    route: target.route,
    request_id: `req_${randomUUID()}`,
    tenant_id: 'ten_a',
    key_id: 'key_a',
    adapter_digest: null,
    max_tokens: 16,
    body_sha256: createHash('sha256').update(body).digest('hex'),
    nonce: randomUUID(),
    iat,
    exp: iat + 30,
  }
}

const HEADER = { alg: 'HS256' }

type Forge = (
  claims: GrantClaims,
  target: ForgeryTarget,
  random: () => number,
) => string | Partial<ForgedCall>

/** Without the secret. */
const FORGERIES: Readonly<Record<string, Forge>> = {
  byte_altered(claims, { secret }, random) {
    const bytes = Buffer.from(signJws(HEADER, claims, secret))
    // Not the last, which has bits of no meaning: that is a replay.
    const at = Math.floor(random() * (bytes.length - 1))
    bytes[at] = (bytes[at] ?? 0) ^ (1 + Math.floor(random() * 127))
    return bytes.toString('latin1')
  },
  byte_dropped(claims, { secret }, random) {
    const token = signJws(HEADER, claims, secret)
    const at = Math.floor(random() * token.length)
    return token.slice(0, at) + token.slice(at + 1)
  },
  random_bytes: (_claims, _target, random) =>
    Array.from({ length: 3 }, () =>
      Buffer.from(Array.from({ length: 60 }, () => Math.floor(random() * 256))).toString(
        'base64url',
      ),
    ).join('.'),
  claim_altered(claims, { secret, otherRoute }, random) {
    const [header, , signature] = signJws(HEADER, claims, secret).split('.')
    const changes: Partial<GrantClaims>[] = [
      { route: otherRoute },
      { method: 'GET' },
      { aud: claims.aud === 'host' ? 'edge' : 'host' },
      { request_id: 'req_other' },
      { tenant_id: 'ten_b' },
      { tenant_id: null },
      { key_id: 'key_b' },
      { adapter_digest: `sha256:${'1'.repeat(64)}` },
      { max_tokens: 1_000_000 },
      { max_tokens: null },
      { body_sha256: 'a'.repeat(64) },
      { body_sha256: null },
      { nonce: randomUUID() },
      { iat: claims.iat + 1 },
      { exp: claims.exp + 1 },
    ]
    const change = changes[Math.floor(random() * changes.length)]
    return `${header}.${encode({ ...claims, ...change })}.${signature}`
  },
  no_algorithm(claims, { secret }, random) {
    const alg = ['none', 'None', 'NONE', 'nOnE', ''][Math.floor(random() * 5)]
    const token = signJws({ alg }, claims, secret, random() < 0.5 ? null : 'sha256')
    return token
  },
  other_hash: (claims, { secret }, random) =>
    random() < 0.5
      ? signJws({ alg: 'HS512' }, claims, secret, 'sha512')
      : signJws({ alg: 'HS384' }, claims, secret, 'sha384'),
  other_algorithm(claims, { secret }, random) {
    const names = ['RS256', 'ES256', 'PS256', 'EdDSA', 'hs256', 'HS256 ', 'dir', 'A256GCM']
    return signJws({ alg: names[Math.floor(random() * names.length)] }, claims, secret)
  },
  own_key_in_header(claims, _target, random) {
    const secret = String(random())
    const jwk = { kty: 'oct', k: encode(secret) }
    const header = { ...HEADER, jwk, jku: 'http://127.0.0.1/keys', kid: '../../dev/null' }
    return signJws(header, claims, random() < 0.5 ? secret : '')
  },
  critical_header: (claims, { secret }) =>
    signJws({ ...HEADER, crit: ['exp', 'b64'], b64: false }, claims, secret),
  other_secret(claims, { secret }, random) {
    const secrets = ['', `${secret} `, secret.slice(1), secret.toUpperCase(), String(random())]
    return signJws(HEADER, claims, secrets[Math.floor(random() * secrets.length)] ?? '')
  },
}

/** By the pool's own secret, for something else. */
const MISUSES: Readonly<Record<string, Forge>> = {
  other_body: (claims, { secret }, random) => ({
    token: signJws(HEADER, claims, secret),
    body: `{"x":${random()}}`,
  }),
  no_body_hash: (claims, { secret }) => signJws(HEADER, { ...claims, body_sha256: null }, secret),
  other_route: (claims, { secret, otherRoute }, random) =>
    random() < 0.5
      ? signJws(HEADER, { ...claims, route: otherRoute }, secret)
      : { token: signJws(HEADER, claims, secret), route: otherRoute },
  other_method: (claims, { secret }, random) =>
    random() < 0.5
      ? signJws(HEADER, { ...claims, method: 'GET' }, secret)
      : { token: signJws(HEADER, claims, secret), method: 'PUT' },
  other_audience: (claims, { secret }) =>
    signJws(HEADER, { ...claims, aud: claims.aud === 'host' ? 'edge' : 'host' }, secret),
  expired(claims, { secret }, random) {
    const agoS = 36 + Math.floor(random() * 100_000)
    return signJws(
      HEADER,
      { ...claims, iat: claims.iat - agoS, exp: claims.iat - agoS + 30 },
      secret,
    )
  },
  of_the_future(claims, { secret }, random) {
    const iat = claims.iat + 7 + Math.floor(random() * 100_000)
    return signJws(HEADER, { ...claims, iat, exp: iat + 30 }, secret)
  },
  too_long: (claims, { secret }, random) =>
    signJws(HEADER, { ...claims, exp: claims.iat + 31 + Math.floor(random() * 1e6) }, secret),
  odd_times(claims, { secret }, random) {
    const odd: object[] = [
      { exp: undefined },
      { iat: undefined },
      { exp: null },
      { iat: String(claims.iat) },
      { exp: claims.exp + 0.5 },
      { exp: 1e300 },
      { iat: -1, exp: 29 },
      { nbf: claims.iat + 1000 },
    ]
    return signJws(HEADER, { ...claims, ...odd[Math.floor(random() * odd.length)] }, secret)
  },
  claim_missing(claims, { secret }, random) {
    const names = ['aud', 'route', 'request_id', 'tenant_id', 'key_id', 'adapter_digest', 'nonce']
    const name = names[Math.floor(random() * names.length)] ?? 'aud'
    return signJws(HEADER, { ...claims, [name]: undefined }, secret)
  },
  no_claims: (_claims, { secret }, random) =>
    signJws(HEADER, ['null', '[]', '""', '{}', '{', '1'][Math.floor(random() * 6)] ?? '', secret),
}

/** `count` calls by turns of every kind; the same for the same seed, nonces and ids apart. */
function* forgeCalls(target: ForgeryTarget, count: number, seed: number): Generator<ForgedCall> {
  const random = createRandom(seed)
  const kinds = Object.entries({ ...FORGERIES, ...MISUSES })
  for (let i = 0; i < count; i++) {
    const [kind, forge] = kinds[i % kinds.length] ?? ['', () => '']
    const body = JSON.stringify({ i })
    const forged = forge(goodClaims(target, body), target, random)
    const call = typeof forged === 'string' ? { token: forged } : forged
    yield { kind, token: '', body, method: 'POST', route: target.route, ...call }
  }
}

/** A good call and its replay for so many forged ones. */
const REPLAYS_EVERY = 20

export interface RaidResult {
  readonly calls: number
  readonly accepted: readonly string[]
  /** Good calls between them, each of which must be taken once. */
  readonly good: number
  readonly goodTaken: number
  /** How many were tried, by kind. */
  readonly kinds: Readonly<Record<string, number>>
}

/** @param pass moves the clock of target and verifier on. */
export async function raid(
  target: ForgeryTarget,
  { count, seed, pass }: { count: number; seed: number; pass: (ms: number) => void },
  isAccepted: (call: ForgedCall) => Promise<boolean>,
): Promise<RaidResult> {
  const accepted: string[] = []
  const kinds: Record<string, number> = {}
  let [calls, good, goodTaken] = [0, 0, 0]
  const attack = async (call: ForgedCall): Promise<void> => {
    calls += 1
    kinds[call.kind] = (kinds[call.kind] ?? 0) + 1
    if (await isAccepted(call)) accepted.push(`${call.kind}: ${call.token}`)
  }
  for (const forged of forgeCalls(target, count, seed)) {
    await attack(forged)
    if (calls % REPLAYS_EVERY !== 0) continue
    pass(100)
    const body = JSON.stringify({ calls })
    const token = signJws(HEADER, goodClaims(target, body), target.secret)
    const call = { kind: 'replayed', token, body, method: 'POST', route: target.route }
    good += 1
    if (await isAccepted(call)) goodTaken += 1
    // Within its life: only that it was used before speaks against it.
    pass((good % 7) * 1000)
    await attack({ ...call, token: good % 2 === 0 ? token : respelled(token) })
  }
  return { calls, accepted, good, goodTaken, kinds }
}

/** The last letter of a signature has two bits of no meaning: another text, the same token. */
function respelled(token: string): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return token.slice(0, -1) + letters[letters.indexOf(token.at(-1) ?? 'A') ^ 1]
}
