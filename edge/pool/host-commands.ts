/** Tells a host at once what the operator wants of it; answers to its heartbeats say it again. */
import { type Heartbeat, HOST_ROUTES, type HostWish, heartbeat } from '#protocol'
import { HOST_COMMAND_TIMEOUT_MS } from '../limits.ts'
import type { GrantSigner } from './grant.ts'

export interface HostCommandsOptions {
  readonly signer: GrantSigner
  readonly fetch: typeof globalThis.fetch
}

export class HostCommands {
  readonly #options: HostCommandsOptions

  constructor(options: HostCommandsOptions) {
    this.#options = options
  }

  /** The host's state after it; null when it did not answer in time. Never rejects. */
  async tell(
    url: string,
    wish: HostWish,
    call: { readonly requestId: string; readonly signal: AbortSignal },
  ): Promise<Heartbeat | null> {
    const { signer, fetch } = this.#options
    const route = wish === 'drain' ? HOST_ROUTES.drain : HOST_ROUTES.resume
    const body = '{}'
    const pool = { tenant_id: null, key_id: null, adapter_digest: null, max_tokens: null }
    try {
      const grant = { route, request_id: call.requestId, ...pool, body }
      const response = await fetch(new URL(route, url).href, {
        method: 'POST',
        headers: {
          authorization: await signer.sign(grant),
          'content-type': 'application/json',
        },
        body,
        signal: AbortSignal.any([call.signal, AbortSignal.timeout(HOST_COMMAND_TIMEOUT_MS)]),
      })
      return heartbeat.safeParse(await response.json()).data ?? null
    } catch {
      return null
    }
  }
}
