/** What an S3-compatible store says when it refuses, and what an operator can do about it. */
import { textOf } from './s3-xml.ts'

/** Ours, beside the codes of S3: no reply, and a reply that is not one of S3. */
export type LocalS3Code = 'unreachable' | 'not_s3' | 'broken_read'

/** By code; says which variable to look at. */
const FIXES: Readonly<Record<string, string>> = {
  unreachable: 'check NOZZLE_STORE_ENDPOINT and the way to it',
  not_s3: 'NOZZLE_STORE_ENDPOINT leads to something that is not S3: a proxy, or a wrong address',
  NoSuchBucket: 'create the bucket that NOZZLE_STORE names, or correct NOZZLE_STORE',
  AccessDenied:
    'allow the key of NOZZLE_STORE_ACCESS_KEY_ID to list the bucket, and to get, put and delete objects under the prefix',
  InvalidAccessKeyId: 'correct NOZZLE_STORE_ACCESS_KEY_ID',
  SignatureDoesNotMatch: 'correct NOZZLE_STORE_SECRET_ACCESS_KEY',
  RequestTimeTooSkewed: 'set the clock of this machine: it differs from that of the store',
  PermanentRedirect: 'set NOZZLE_STORE_REGION to the region of the bucket',
  AuthorizationHeaderMalformed: 'set NOZZLE_STORE_REGION to the region of the bucket',
  ExpiredToken: 'renew NOZZLE_STORE_SESSION_TOKEN and its keys',
  InvalidToken: 'correct NOZZLE_STORE_SESSION_TOKEN',
}

/** The store is there, and may do it a moment later. */
const TRANSIENT_CODES = ['unreachable', 'broken_read', 'RequestTimeout', 'SlowDown']
const TRANSIENT_STATUSES = [408, 425, 429, 500, 502, 503, 504]

export class S3Error extends Error {
  override readonly name = 'S3Error'
  /** S3's own (`NoSuchKey` …), or a LocalS3Code. */
  readonly code: string
  /** 0 = there was no reply. */
  readonly status: number

  constructor(code: string, status: number, detail: string, cause?: unknown) {
    const fix = FIXES[code]
    const text = `the adapter store: ${code}${detail === '' ? '' : `: ${detail}`}`
    super(fix === undefined ? text : `${text}; ${fix}`, { cause })
    this.code = code
    this.status = status
  }

  /** Trying the same again may help. */
  get isTransient(): boolean {
    return TRANSIENT_CODES.includes(this.code) || TRANSIENT_STATUSES.includes(this.status)
  }
}

/** A reply other than 2xx. `text` is empty for an answer to HEAD, which has no body. */
export function toS3Error(status: number, text: string): S3Error {
  const code = textOf(text, 'Code')
  if (code !== null) return new S3Error(code, status, textOf(text, 'Message') ?? '')
  if (text === '' && status === 404) return new S3Error('NoSuchKey', status, '')
  if (text === '' && status === 403) return new S3Error('AccessDenied', status, '')
  return new S3Error(text === '' ? `status ${status}` : 'not_s3', status, `it answered ${status}`)
}
