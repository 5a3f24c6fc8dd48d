/**
 * Brings an adapter to a host. Through this edge: byte for byte and unread, files are never held
 * here, and in one attempt, since a stream cannot be sent twice. Or past it, straight to the pool's
 * store: then a host says where, and fetches what has arrived.
 */
import type { z } from 'zod'
import {
  type AdapterReceipt,
  adapterReceipt,
  HOST_ROUTES,
  type UploadFiles,
  type UploadPlan,
  uploadPlan,
} from '#protocol'
import { EdgeError } from '../errors.ts'
import { HOST_ATTEMPTS_MAX, UPLOAD_TIMEOUT_MS } from '../limits.ts'
import type { GrantSigner } from './grant.ts'
import { type HostFailure, parseHostFailure, unreachable, wrongReply } from './host-failure.ts'
import { type HostTransport, isOk, readText } from './host-transport.ts'
import { ForeignReply } from './own-reply.ts'
import { type HostState, pickHosts } from './pick-host.ts'
import type { PoolView } from './pool-view.ts'

export interface UploadClientOptions {
  readonly pool: PoolView
  readonly signer: GrantSigner
  readonly transport: HostTransport
}

export interface UploadCall {
  readonly requestId: string
  readonly tenantId: string
  readonly keyId: string | null
  readonly baseModel: string
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal
}

interface Body {
  readonly content: string | ReadableStream<Uint8Array>
  readonly contentType: string
}

export class UploadClient {
  readonly #options: UploadClientOptions

  constructor(options: UploadClientOptions) {
    this.#options = options
  }

  /** Throws EdgeError with the host's own words when it refuses the adapter. */
  async install(upload: Request, call: UploadCall): Promise<AdapterReceipt> {
    const contentType = upload.headers.get('content-type') ?? ''
    if (!contentType.startsWith('multipart/form-data') || upload.body === null) {
      throw new EdgeError(
        'invalid_request',
        'Send multipart/form-data with the files "config" and "weights".',
      )
    }
    const [host] = await this.#hosts(call)
    if (host === undefined) throw noHost(call)
    const body = { content: upload.body, contentType }
    const reply = await this.#post(host, HOST_ROUTES.adapters, call, body, null, adapterReceipt)
    if (!isFailure(reply)) return reply
    // The bytes come from the client: it is not the host that is slow.
    if (reply.hostCode !== 'request_timeout') throw reply.error
    throw new EdgeError('request_timeout', 'the upload did not arrive in time')
  }

  /** Where the files go, and what of them is there already. */
  plan(files: UploadFiles, call: UploadCall): Promise<UploadPlan> {
    return this.#ask(HOST_ROUTES.uploadPlan, files, null, call, uploadPlan)
  }

  /**
   * Makes an adapter of what has arrived. `knownDigest`: the tenant has had this very adapter, so
   * it need not arrive again.
   */
  complete(
    files: UploadFiles,
    knownDigest: string | null,
    call: UploadCall,
  ): Promise<AdapterReceipt> {
    return this.#ask(HOST_ROUTES.uploadComplete, files, knownDigest, call, adapterReceipt)
  }

  /** One host after the other, for as long as another may do better. */
  async #ask<T extends object>(
    route: string,
    files: UploadFiles,
    digest: string | null,
    call: UploadCall,
    schema: z.ZodType<T>,
  ): Promise<T> {
    const body = { content: JSON.stringify({ files }), contentType: 'application/json' }
    let error = noHost(call)
    for (const host of (await this.#hosts(call)).slice(0, HOST_ATTEMPTS_MAX)) {
      const reply = await this.#post(host, route, call, body, digest, schema)
      if (!isFailure(reply)) return reply
      error = reply.error
      if (!reply.isRetryable) break
    }
    throw error
  }

  async #hosts({ baseModel, tenantId }: UploadCall): Promise<HostState[]> {
    const wish = { baseModel, tenantId, digest: null, demand: 0 }
    return pickHosts(await this.#options.pool.ready(), wish)
  }

  /** Throws only when the client has left. */
  async #post<T extends object>(
    host: HostState,
    route: string,
    call: UploadCall,
    { content, contentType }: Body,
    digest: string | null,
    schema: z.ZodType<T>,
  ): Promise<T | HostFailure> {
    const { pool, signer, transport } = this.#options
    const authorization = await signer.sign({
      route,
      request_id: call.requestId,
      tenant_id: call.tenantId,
      key_id: call.keyId,
      adapter_digest: digest,
      max_tokens: null,
      body: typeof content === 'string' ? content : null,
    })
    const leave = pool.enter(host.hostId)
    try {
      const reply = await transport({
        url: new URL(route, host.url).href,
        requestId: call.requestId,
        headers: { authorization, 'content-type': contentType },
        body: content,
        signal: AbortSignal.any([call.signal, AbortSignal.timeout(UPLOAD_TIMEOUT_MS)]),
      })
      const text = await readText(reply)
      if (!isOk(reply)) return parseHostFailure(reply.status, text)
      return schema.parse(JSON.parse(text))
    } catch (error) {
      if (call.signal.aborted) throw new EdgeError('request_aborted', 'the client left')
      return error instanceof ForeignReply ? wrongReply(error.message) : unreachable(error)
    } finally {
      leave()
    }
  }
}

function isFailure<T extends object>(reply: T | HostFailure): reply is HostFailure {
  return 'type' in reply && reply.type === 'failure'
}

function noHost({ baseModel }: UploadCall): EdgeError {
  return new EdgeError('no_host_available', `No host serves ${baseModel} at the moment.`)
}
