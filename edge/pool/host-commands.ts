/** Tells a host at once what the operator wants of it; answers to its heartbeats say it again. */
import { type Heartbeat, HOST_ROUTES, type HostWish, heartbeat } from '#protocol'
import { HOST_COMMAND_TIMEOUT_MS } from '../limits.ts'
import type { HostCalls } from './host-calls.ts'
import { readText } from './host-transport.ts'

const OF_NO_TENANT = { tenant_id: null, key_id: null, adapter_digest: null, max_tokens: null }

export class HostCommands {
  readonly #calls: HostCalls

  constructor(calls: HostCalls) {
    this.#calls = calls
  }

  /** The host's state after it; null when it did not answer in time. Never rejects. */
  async tell(
    url: string,
    wish: HostWish,
    call: { readonly requestId: string; readonly signal: AbortSignal },
  ): Promise<Heartbeat | null> {
    const route = wish === 'drain' ? HOST_ROUTES.drain : HOST_ROUTES.resume
    const signal = AbortSignal.any([call.signal, AbortSignal.timeout(HOST_COMMAND_TIMEOUT_MS)])
    try {
      const command = { request_id: call.requestId, ...OF_NO_TENANT, body: '{}' }
      const reply = await this.#calls.post(url, route, command, signal)
      return heartbeat.safeParse(JSON.parse(await readText(reply))).data ?? null
    } catch {
      return null
    }
  }
}
