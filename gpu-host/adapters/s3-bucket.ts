/**
 * Signed calls to one bucket of an S3-compatible store (AWS, R2, MinIO …): each attempt signed anew
 * and timed, a transient failure tried again after a pause with jitter. Knows nothing of packs.
 */
import { createHash } from 'node:crypto'
import { AwsV4Signer } from 'aws4fetch'
import { type Clock, sleep } from '../clock.ts'
import { S3Error, toS3Error } from './s3-error.ts'
import { elementsOf, textOf } from './s3-xml.ts'
import type { S3Settings } from './store-address.ts'

export interface S3Call {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** Below the prefix; empty = the bucket itself. */
  readonly key: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array<ArrayBuffer>
  readonly signal?: AbortSignal
}

export interface S3Object {
  /** Below the prefix. */
  readonly key: string
  readonly bytes: number
  /** UTC milliseconds. */
  readonly modifiedAtMs: number
}

export interface S3BucketOptions {
  readonly settings: S3Settings
  readonly clock: Clock
  readonly fetch: typeof globalThis.fetch
  /** 0 ≤ x < 1. */
  readonly random: () => number
}

const ATTEMPTS_MAX = 4
/** Doubles with each attempt; the pause is a random part of it. */
const PAUSE_MS = 100
/** A store that has not begun its reply by then has failed this attempt … */
const REPLY_MS_MAX = 4000
/** … and after so long no further attempt is begun. */
const PATIENCE_MS = 8000
/** Slowest transfer in one piece that is waited for. */
const BYTES_PER_MS_MIN = 200
const ERROR_BYTES_MAX = 16 * 1024

export class S3Bucket {
  readonly #options: S3BucketOptions
  /** Signing keys of the day, by the library. */
  readonly #signingKeys = new Map<string, ArrayBuffer>()

  constructor(options: S3BucketOptions) {
    this.#options = options
  }

  /** The reply as soon as it begins; its body is the caller's to read. Throws S3Error. */
  send(call: S3Call): Promise<Response> {
    return this.#retry(call, async (response) => response)
  }

  /** The reply's text. Throws S3Error, also for one that comes with status 200. */
  sendForText(call: S3Call): Promise<{ text: string; headers: Headers }> {
    return this.#retry(call, async (response) => {
      const text = await response.text()
      // S3 begins some long replies before it knows how they end.
      if (text.includes('<Error>')) throw toS3Error(500, text)
      return { text, headers: response.headers }
    })
  }

  /** The reply's body, of about so many bytes, which it is waited for accordingly. */
  sendForBytes(call: S3Call, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#retry(
      call,
      async (response) => new Uint8Array(await response.arrayBuffer()),
      bytes,
    )
  }

  /** A URL that may be used once or often until it expires, with exactly these headers. */
  async presign(
    call: Pick<S3Call, 'method' | 'key'> & { readonly headers: Readonly<Record<string, string>> },
    expiresS: number,
  ): Promise<string> {
    const url = this.#url(call)
    url.searchParams.set('X-Amz-Expires', String(expiresS))
    const { method, headers } = call
    // Length and checksum too, or they would bind nobody.
    const signed = await this.#signer(url, method, { ...headers }, { allHeaders: true }).sign()
    return signed.url.href
  }

  /** All objects whose key begins so, prefix left out; page by page. */
  async *list(keyStart: string): AsyncGenerator<S3Object, void, void> {
    const { prefix } = this.#options.settings
    let token: string | null = null
    do {
      const query: Record<string, string> = { 'list-type': '2', prefix: prefix + keyStart }
      if (token !== null) query['continuation-token'] = token
      const { text }: { text: string } = await this.sendForText({ method: 'GET', key: '', query })
      yield* parseObjects(text, prefix)
      token = textOf(text, 'NextContinuationToken')
    } while (token !== null)
  }

  async #retry<T>(
    call: S3Call,
    read: (response: Response) => Promise<T>,
    bytes = call.body?.byteLength ?? 0,
  ): Promise<T> {
    const { clock, random } = this.#options
    const beganUs = clock.nowUs()
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#attempt(call, read, bytes)
      } catch (error) {
        if (call.signal?.aborted || !(error instanceof S3Error)) throw error
        const waitedMs = (clock.nowUs() - beganUs) / 1000
        const isLast = attempt >= ATTEMPTS_MAX || waitedMs > PATIENCE_MS
        if (isLast || !error.isTransient) throw error
        await sleep(clock, random() * PAUSE_MS * 2 ** attempt, call.signal)
      }
    }
  }

  async #attempt<T>(
    call: S3Call,
    read: (response: Response) => Promise<T>,
    bytes: number,
  ): Promise<T> {
    const { clock, fetch } = this.#options
    const { method, body, signal } = call
    const silence = new AbortController()
    const limitMs = REPLY_MS_MAX + bytes / BYTES_PER_MS_MIN
    const cancel = clock.setTimer(limitMs, () =>
      silence.abort(new Error(`no reply within ${Math.round(limitMs)} ms`)),
    )
    const signals = signal === undefined ? [silence.signal] : [silence.signal, signal]
    try {
      const { url, headers } = await this.#sign(call)
      // What is stored is what comes. Not signed: fetch itself says it again beside a range.
      headers.set('accept-encoding', 'identity')
      const response = await fetch(url.href, {
        method,
        headers,
        body: body ?? null,
        redirect: 'manual',
        signal: AbortSignal.any(signals),
      })
      if (response.ok) return await read(response)
      throw toS3Error(response.status, (await response.text()).slice(0, ERROR_BYTES_MAX))
    } catch (error) {
      if (error instanceof S3Error) throw error
      if (signal?.aborted) throw error
      throw new S3Error('unreachable', 0, reasonOf(error), error)
    } finally {
      cancel()
    }
  }

  #sign(call: S3Call): Promise<{ url: URL; headers: Headers }> {
    const body = call.body ?? new Uint8Array()
    return this.#signer(this.#url(call), call.method, {
      ...call.headers,
      'x-amz-content-sha256': createHash('sha256').update(body).digest('hex'),
    }).sign()
  }

  #signer(
    url: URL,
    method: string,
    headers: Record<string, string>,
    query?: { readonly allHeaders: true },
  ): AwsV4Signer {
    const { settings, clock } = this.#options
    return new AwsV4Signer({
      url: url.href,
      method,
      headers,
      accessKeyId: settings.accessKeyId,
      secretAccessKey: settings.secretAccessKey,
      ...(settings.sessionToken !== null && { sessionToken: settings.sessionToken }),
      service: 's3',
      region: settings.region,
      cache: this.#signingKeys,
      datetime: new Date(clock.nowMs()).toISOString().replaceAll(/[:-]|\.\d{3}/g, ''),
      ...(query && { signQuery: true, ...query }),
    })
  }

  #url({ key, query = {} }: Pick<S3Call, 'key' | 'query'>): URL {
    const { bucket, prefix, endpoint, isPathStyle } = this.#options.settings
    const url = new URL(endpoint)
    const base = url.pathname.replace(/\/$/, '')
    const name = key === '' ? '' : prefix + key
    if (isPathStyle) url.pathname = `${base}/${bucket}/${name}`
    else {
      url.host = `${bucket}.${url.host}`
      url.pathname = `${base}/${name}`
    }
    for (const [field, value] of Object.entries(query)) url.searchParams.set(field, value)
    return url
  }
}

function parseObjects(text: string, prefix: string): S3Object[] {
  return elementsOf(text, 'Contents').map((xml) => ({
    key: (textOf(xml, 'Key') ?? '').slice(prefix.length),
    bytes: Number(textOf(xml, 'Size')),
    modifiedAtMs: Date.parse(textOf(xml, 'LastModified') ?? ''),
  }))
}

/** fetch hides the reason in `cause`: ECONNREFUSED, ENOTFOUND … */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? error.cause.message : error.message
}
