/**
 * A store that speaks S3, strict where a real one is: signatures, payload hashes and checksums are
 * verified, parts of an upload become visible all at once or never. It keeps everything in memory
 * and can be made to fail in every way that a store does.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { S3Settings } from '../../store-address.ts'
import { findSignatureFault } from './signature-v4.ts'

export interface StoredObject {
  readonly bytes: Buffer
  readonly etag: string
  readonly modifiedAtMs: number
}

/**
 * What befalls a request: `hang` = no reply, `reset` = the connection breaks after `afterBytes` of
 * the body, `stall` = nothing more comes after them, `answer` = this instead.
 */
export type Fault =
  | { readonly kind: 'hang' }
  | { readonly kind: 'reset' | 'stall'; readonly afterBytes: number }
  | { readonly kind: 'answer'; readonly status: number; readonly body: string }

export interface S3Request {
  readonly method: string
  readonly key: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
}

export const SLOW_DOWN: Fault = {
  kind: 'answer',
  status: 503,
  body: '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>',
}

const BUCKET = 'packs-of-tests'
const PART_BYTES_MIN = 5 * 1024 * 1024
const PAGE = 1000

interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer | string
}

class Refusal extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string) {
    super(code)
    this.status = status
    this.code = code
  }
}

export class S3Server {
  readonly objects = new Map<string, StoredObject>()
  readonly uploads = new Map<
    string,
    { readonly key: string; readonly parts: Map<number, Buffer> }
  >()
  readonly requests: S3Request[] = []
  /** null = nothing befalls it. */
  fault: (request: S3Request) => Fault | null = () => null
  /** The store's own clock. */
  nowMs = Date.now
  /** Keys per page of a listing. */
  page = PAGE
  /** The least that a part may have which is not the last. */
  partBytesMin = PART_BYTES_MIN
  readonly #server: Server
  #uploadCount = 0
  #port = 0

  private constructor() {
    this.#server = createServer((request, response) => {
      response.on('error', () => {})
      void this.#answer(request, response)
    })
  }

  static async start(): Promise<S3Server> {
    const server = new S3Server()
    await server.listen()
    return server
  }

  /** At the port that it had before. */
  async listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Nobody listens there any more; what is stored stays. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  get settings(): S3Settings {
    return {
      bucket: BUCKET,
      prefix: 'pool/',
      endpoint: `http://127.0.0.1:${this.#port}`,
      region: 'eu-test-1',
      accessKeyId: 'AKIDEXAMPLE',
      secretAccessKey: 'a secret of these tests',
      sessionToken: null,
      isPathStyle: true,
    }
  }

  /** Requests for objects, not for the bucket. */
  count(method: string): number {
    return this.requests.filter((request) => request.method === method && request.key !== '').length
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://store')
    const [, bucket = '', ...rest] = url.pathname.split('/')
    const method = request.method ?? ''
    const call = { method, key: rest.join('/'), query: url.searchParams, headers: request.headers }
    this.requests.push(call)
    const fault = this.fault(call)
    if (fault?.kind === 'hang') return
    let reply: Reply
    try {
      const body = await buffer(request)
      if (fault?.kind === 'answer') reply = { ...fault }
      else {
        this.#authenticate(request, body)
        if (bucket !== BUCKET) throw new Refusal(404, 'NoSuchBucket')
        reply = this.#route(call, body)
      }
    } catch (error) {
      const { status, code } = error instanceof Refusal ? error : new Refusal(500, 'InternalError')
      const body = `<Error><Code>${code}</Code><Message>refused</Message></Error>`
      reply = { status, body }
    }
    send(response, reply, fault)
  }

  #authenticate(request: IncomingMessage, body: Buffer): void {
    const { method = '', url: target = '', headers } = request
    const fault = findSignatureFault({ method, target, headers, body }, this.settings, this.nowMs())
    if (fault !== null) throw new Refusal(403, fault)
    const checksum = headers['x-amz-checksum-sha256']
    const actual = createHash('sha256').update(body).digest('base64')
    if (checksum !== undefined && checksum !== actual) throw new Refusal(400, 'BadDigest')
  }

  #route(call: S3Request, body: Buffer): Reply {
    const { method, key, query } = call
    const uploadId = query.get('uploadId')
    if (method === 'GET') return key === '' ? this.#list(query) : this.#get(call)
    if (method === 'POST' && query.has('uploads')) return this.#beginUpload(key)
    if (method === 'POST' && uploadId) return this.#endUpload(uploadId, body)
    if (method === 'PUT' && uploadId) {
      this.#upload(uploadId).parts.set(Number(query.get('partNumber')), body)
      return { status: 200, headers: { etag: etagOf(body) } }
    }
    if (method === 'PUT') return { status: 200, headers: { etag: this.put(key, body) } }
    if (method !== 'DELETE') throw new Refusal(405, 'MethodNotAllowed')
    if (uploadId) this.#upload(uploadId)
    if (uploadId) this.uploads.delete(uploadId)
    else this.objects.delete(key)
    return { status: 204 }
  }

  put(key: string, bytes: Buffer, modifiedAtMs = Date.now()): string {
    const etag = etagOf(bytes)
    this.objects.set(key, { bytes, etag, modifiedAtMs })
    return etag
  }

  #get({ key, headers }: S3Request): Reply {
    const object = this.objects.get(key)
    if (object === undefined) throw new Refusal(404, 'NoSuchKey')
    const { bytes, etag } = object
    const wanted = headers['if-match']
    if (wanted !== undefined && wanted !== etag) throw new Refusal(412, 'PreconditionFailed')
    const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? []
    if (from === undefined) return { status: 200, headers: { etag }, body: bytes }
    const body = bytes.subarray(Number(from))
    if (body.length === 0) throw new Refusal(416, 'InvalidRange')
    return { status: 206, headers: { etag }, body }
  }

  #list(query: URLSearchParams): Reply {
    const prefix = query.get('prefix') ?? ''
    const after = query.get('continuation-token') ?? ''
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after)
    keys.sort()
    const size = Math.min(this.page, Number(query.get('max-keys') ?? PAGE))
    const shown = keys.slice(0, size)
    const contents = shown.map((key) => {
      const { bytes, modifiedAtMs } = this.objects.get(key) ?? { bytes: '', modifiedAtMs: 0 }
      const at = new Date(modifiedAtMs).toISOString()
      return `<Contents><Key>${key}</Key><LastModified>${at}</LastModified><Size>${bytes.length}</Size></Contents>`
    })
    const next =
      shown.length < keys.length
        ? `<NextContinuationToken>${shown.at(-1)}</NextContinuationToken>`
        : ''
    const body = `<ListBucketResult>${contents.join('')}${next}</ListBucketResult>`
    return { status: 200, body }
  }

  #beginUpload(key: string): Reply {
    this.#uploadCount += 1
    const id = `upload-${this.#uploadCount}`
    this.uploads.set(id, { key, parts: new Map() })
    const xml = `<UploadId>${id}</UploadId>`
    const body = `<InitiateMultipartUploadResult>${xml}</InitiateMultipartUploadResult>`
    return { status: 200, body }
  }

  #endUpload(id: string, body: Buffer): Reply {
    const { key, parts } = this.#upload(id)
    const pattern = /<PartNumber>(\d+)<\/PartNumber><ETag>&quot;([0-9a-f]+)&quot;<\/ETag>/g
    const named = [...body.toString().matchAll(pattern)]
    const chosen = named.map(([, number, tag], index) => {
      const bytes = parts.get(Number(number))
      if (bytes === undefined || etagOf(bytes) !== `"${tag}"`) throw new Refusal(400, 'InvalidPart')
      if (Number(number) !== index + 1) throw new Refusal(400, 'InvalidPartOrder')
      const isShort = index < named.length - 1 && bytes.length < this.partBytesMin
      if (isShort) throw new Refusal(400, 'EntityTooSmall')
      return bytes
    })
    if (chosen.length === 0) throw new Refusal(400, 'MalformedXML')
    this.put(key, Buffer.concat(chosen))
    this.uploads.delete(id)
    return { status: 200, body: '<CompleteMultipartUploadResult></CompleteMultipartUploadResult>' }
  }

  #upload(id: string): { readonly key: string; readonly parts: Map<number, Buffer> } {
    const upload = this.uploads.get(id)
    if (upload === undefined) throw new Refusal(404, 'NoSuchUpload')
    return upload
  }
}

function etagOf(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`
}

function send(response: ServerResponse, { status, headers, body }: Reply, fault: Fault | null) {
  const bytes = Buffer.from(body ?? '')
  const length = status === 204 ? {} : { 'content-length': bytes.length }
  response.writeHead(status, { ...headers, ...length })
  if (fault?.kind !== 'reset' && fault?.kind !== 'stall') {
    response.end(bytes)
    return
  }
  response.flushHeaders()
  response.write(bytes.subarray(0, fault.afterBytes), () => {
    if (fault.kind === 'reset') setImmediate(() => response.destroy())
  })
}
