/**
 * A signed JSON call from this host to the edge. Resolves with the reply's body on 2xx, rejects
 * otherwise; never waits longer than its time limit.
 */
import type { Clock } from '../clock.ts'
import { signForEdge } from '../grants.ts'

export interface EdgeClientOptions {
  readonly edgeUrl: string
  readonly poolSecret: Uint8Array
  readonly clock: Clock
  readonly fetch: typeof globalThis.fetch
}

const REPLY_BYTES_MAX = 64 * 1024

export class EdgeClient {
  readonly #options: EdgeClientOptions

  constructor(options: EdgeClientOptions) {
    this.#options = options
  }

  async post(
    route: string,
    requestId: string,
    value: unknown,
    timeoutMs: number,
  ): Promise<unknown> {
    const { edgeUrl, poolSecret, clock, fetch } = this.#options
    const body = JSON.stringify(value)
    const authorization = await signForEdge(poolSecret, clock, { route, requestId, body })
    const response = await fetch(new URL(route, edgeUrl), {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json', 'x-request-id': requestId },
      body,
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    })
    const text = (await response.text()).slice(0, REPLY_BYTES_MAX)
    if (!response.ok) throw new Error(`the edge answered ${response.status}: ${text.slice(0, 200)}`)
    return text === '' ? null : JSON.parse(text)
  }
}
