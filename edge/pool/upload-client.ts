/**
 * Passes an adapter upload on to a host, byte for byte and unread: files go through, they are never
 * held here. One attempt, since a stream cannot be sent twice.
 */
import { type AdapterReceipt, adapterReceipt, HOST_ROUTES } from '#protocol'
import { EdgeError } from '../errors.ts'
import { UPLOAD_TIMEOUT_MS } from '../limits.ts'
import type { GrantSigner } from './grant.ts'
import { parseHostFailure, unreachable } from './host-failure.ts'
import { pickHosts } from './pick-host.ts'
import type { PoolView } from './pool-view.ts'

export interface UploadClientOptions {
  readonly pool: PoolView
  readonly signer: GrantSigner
  readonly fetch: typeof globalThis.fetch
}

export interface UploadCall {
  readonly requestId: string
  readonly tenantId: string
  readonly keyId: string | null
  readonly baseModel: string
}

export class UploadClient {
  readonly #options: UploadClientOptions

  constructor(options: UploadClientOptions) {
    this.#options = options
  }

  /** Throws EdgeError with the host's own words when it refuses the adapter. */
  async install(upload: Request, call: UploadCall): Promise<AdapterReceipt> {
    const { pool, signer, fetch } = this.#options
    const contentType = upload.headers.get('content-type') ?? ''
    if (!contentType.startsWith('multipart/form-data') || upload.body === null) {
      throw new EdgeError(
        'invalid_request',
        'Send multipart/form-data with the files "config" and "weights".',
      )
    }
    const { baseModel, tenantId } = call
    const wish = { baseModel, tenantId, digest: null, demand: 0 }
    const [host] = pickHosts(await pool.ready(), wish)
    if (host === undefined) {
      throw new EdgeError('no_host_available', `No host serves ${call.baseModel} at the moment.`)
    }
    const authorization = await signer.sign({
      route: HOST_ROUTES.adapters,
      request_id: call.requestId,
      tenant_id: call.tenantId,
      key_id: call.keyId,
      adapter_digest: null,
      max_tokens: null,
      body: null,
    })
    const leave = pool.enter(host.hostId)
    try {
      const response = await fetch(new URL(HOST_ROUTES.adapters, host.url).href, {
        method: 'POST',
        headers: { authorization, 'content-type': contentType },
        body: upload.body,
        // A body that is a stream must say so.
        duplex: 'half',
        signal: AbortSignal.any([upload.signal, AbortSignal.timeout(UPLOAD_TIMEOUT_MS)]),
      } as RequestInit)
      const text = await response.text()
      if (!response.ok) throw parseHostFailure(response.status, text).error
      return adapterReceipt.parse(JSON.parse(text))
    } catch (error) {
      if (error instanceof EdgeError) throw error
      if (upload.signal.aborted) throw new EdgeError('request_aborted', 'the client left')
      throw unreachable(error).error
    } finally {
      leave()
    }
  }
}
