/**
 * Signed calls to one host, with a body of JSON: each with a grant of its own, since a host takes a
 * nonce once. Which host, and what an answer means, is for the callers to know.
 */
import { cancelReceipt, type GenerateRequest, HOST_ROUTES } from '#protocol'
import { CANCEL_TIMEOUT_MS } from '../limits.ts'
import type { EdgeMetrics } from '../metrics.ts'
import type { GrantCall, GrantSigner } from './grant.ts'
import { type HostReply, type HostTransport, readText } from './host-transport.ts'

export interface HostCallsOptions {
  readonly signer: GrantSigner
  readonly transport: HostTransport
  readonly metrics: EdgeMetrics
}

/** `body`: the JSON that is sent. Other fields of a request are not signed. */
export type HostCall = Omit<GrantCall, 'route' | 'body'> & { readonly body: string }

export class HostCalls {
  readonly #options: HostCallsOptions

  constructor(options: HostCallsOptions) {
    this.#options = options
  }

  /** @param url the host's. @param trace headers that name it. Rejects as the transport does. */
  async post(
    url: string,
    route: string,
    call: HostCall,
    signal: AbortSignal,
    trace: Readonly<Record<string, string>> = {},
  ): Promise<HostReply> {
    const { signer, transport } = this.#options
    const { body, request_id, tenant_id, key_id, adapter_digest, max_tokens } = call
    const claims = { request_id, tenant_id, key_id, adapter_digest, max_tokens }
    const authorization = await signer.sign({ route, ...claims, body })
    return transport({
      url: new URL(route, url).href,
      requestId: request_id,
      headers: { ...trace, authorization, 'content-type': 'application/json' },
      body,
      signal,
    })
  }

  /** Tells a host that its client is gone, and what it got. Never rejects. */
  async cancel(url: string, request: GenerateRequest, deliveredTokens: number): Promise<void> {
    const { metrics } = this.#options
    const { request_id, attempt } = request
    const body = JSON.stringify({ request_id, attempt, delivered_tokens: deliveredTokens })
    try {
      const signal = AbortSignal.timeout(CANCEL_TIMEOUT_MS)
      const response = await this.post(url, HOST_ROUTES.cancel, { ...request, body }, signal)
      const reply = cancelReceipt.safeParse(JSON.parse(await readText(response)))
      metrics.cancels.add({ outcome: reply.success ? reply.data.outcome : 'refused' })
    } catch {
      // The host settles at what it handed over, when it finds the connection closed.
      metrics.cancels.add({ outcome: 'failed' })
    }
  }
}
