/**
 * AWS Signature Version 4, checked as a store checks it: worked out anew from the request as it
 * arrived, in its own words and without the signer's library.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

export interface SignedRequest {
  readonly method: string
  /** As sent, with the query. */
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Uint8Array
}

export interface SigningKey {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
}

const SKEW_MS_MAX = 15 * 60_000
const UNSIGNED = 'UNSIGNED-PAYLOAD'

/** S3's code for what is wrong with the request; null = it is signed as it must be. */
export function findSignatureFault(
  request: SignedRequest,
  key: SigningKey,
  nowMs: number,
): string | null {
  const url = new URL(request.target, 'http://store')
  const query = [...url.searchParams]
  const isPresigned = url.searchParams.has('X-Amz-Signature')
  const claim = isPresigned ? fromQuery(url.searchParams) : fromHeader(request.headers)
  if (claim === null) return 'AccessDenied'
  const [accessKeyId, date, region, service, end] = claim.credential.split('/')
  if (accessKeyId !== key.accessKeyId) return 'InvalidAccessKeyId'
  if (region !== key.region) return 'AuthorizationHeaderMalformed'
  if (service !== 's3' || end !== 'aws4_request' || !claim.at.startsWith(date ?? ' ')) {
    return 'SignatureDoesNotMatch'
  }
  const atMs = parseStamp(claim.at)
  if (claim.expiresS === null && Math.abs(nowMs - atMs) > SKEW_MS_MAX) return 'RequestTimeTooSkewed'
  if (claim.expiresS !== null && nowMs > atMs + claim.expiresS * 1000) return 'AccessDenied'
  if (!claim.signedHeaders.includes('host')) return 'SignatureDoesNotMatch'
  // What decides about the request must be covered, or anybody on the way may change it.
  const amz = Object.keys(request.headers).filter((name) => name.startsWith('x-amz-'))
  if (amz.some((name) => !claim.signedHeaders.includes(name))) return 'AccessDenied'
  const payload = isPresigned ? UNSIGNED : text(request.headers['x-amz-content-sha256'])
  const canonical = [
    request.method,
    // Keys of these tests need no escapes, and signatures are over escaped paths.
    url.pathname,
    query
      .filter(([name]) => name !== 'X-Amz-Signature')
      .map(([name, value]) => `${toEscaped(name)}=${toEscaped(value)}`)
      .sort()
      .join('&'),
    ...claim.signedHeaders.map(
      (name) => `${name}:${text(request.headers[name]).trim().replaceAll(/\s+/g, ' ')}`,
    ),
    '',
    claim.signedHeaders.join(';'),
    payload,
  ].join('\n')
  const scope = [date, region, service, end]
  const toSign = ['AWS4-HMAC-SHA256', claim.at, scope.join('/'), sha256(canonical)].join('\n')
  const signingKey = scope.reduce<Uint8Array>(
    (secret, part) => hmac(secret, part ?? ''),
    Buffer.from(`AWS4${key.secretAccessKey}`),
  )
  const expected = hmac(signingKey, toSign)
  const given = Buffer.from(claim.signature, 'hex')
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    return 'SignatureDoesNotMatch'
  }
  if (payload === UNSIGNED) return isPresigned ? null : 'AccessDenied'
  return payload === sha256(request.body) ? null : 'XAmzContentSHA256Mismatch'
}

interface Claim {
  readonly credential: string
  readonly signedHeaders: readonly string[]
  readonly signature: string
  /** `20260101T000000Z` */
  readonly at: string
  /** null = signed in a header, which the clock alone bounds. */
  readonly expiresS: number | null
}

function fromQuery(query: URLSearchParams): Claim | null {
  const expiresS = Number(query.get('X-Amz-Expires'))
  if (query.get('X-Amz-Algorithm') !== 'AWS4-HMAC-SHA256' || !(expiresS > 0)) return null
  return {
    credential: query.get('X-Amz-Credential') ?? '',
    signedHeaders: (query.get('X-Amz-SignedHeaders') ?? '').split(';'),
    signature: query.get('X-Amz-Signature') ?? '',
    at: query.get('X-Amz-Date') ?? '',
    expiresS,
  }
}

function fromHeader(headers: SignedRequest['headers']): Claim | null {
  const pattern =
    /^AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/
  const match = pattern.exec(text(headers.authorization))
  if (match === null) return null
  const [, credential = '', signed = '', signature = ''] = match
  const at = text(headers['x-amz-date'])
  return { credential, signedHeaders: signed.split(';'), signature, at, expiresS: null }
}

function parseStamp(stamp: string): number {
  const [, y, mo, d, h, mi, s] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp) ?? []
  return Date.parse(`${y}-${mo}-${d}T${h}:${mi}:${s}Z`)
}

function toEscaped(value: string): string {
  return encodeURIComponent(value).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

function text(value: string | string[] | undefined): string {
  return Array.isArray(value) ? value.join(',') : (value ?? '')
}

function sha256(value: string | Uint8Array): string {
  return createHash('sha256').update(value).digest('hex')
}

function hmac(secret: Uint8Array, value: string): Uint8Array {
  return createHmac('sha256', secret).update(value).digest()
}
