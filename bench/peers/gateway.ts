/** Other gateways, each in front of the same host. */
import type { Call } from '../edge/caller.ts'

export interface GatewaySetup {
  readonly port: number
  /** OpenAI's API is below it, at /v1. */
  readonly hostUrl: string
  /** For its settings and its log. */
  readonly directory: string
}

export interface GatewayPeer {
  /** Name and version. */
  readonly release: string
  readonly call: Call
  /** CPU time of all its processes, milliseconds. */
  cpuMs(): number
  stop(): Promise<void>
}
