/**
 * A signed JSON call from this host to the edge. Resolves with the reply's body on 2xx, rejects
 * otherwise (EdgeRefusal where the edge answered); never waits longer than its time limit.
 */
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { signForEdge } from '../grants.ts'

export interface EdgeClientOptions {
  readonly edgeUrl: string
  readonly poolSecret: Uint8Array
  readonly clock: Clock
  readonly fetch: typeof globalThis.fetch
}

const REPLY_BYTES_MAX = 64 * 1024
const errorReply = z.object({ error: z.object({ code: z.string() }) })

/** The edge refused a call. `code` is its own, null where the body names none. */
export class EdgeRefusal extends Error {
  override readonly name = 'EdgeRefusal'
  readonly code: string | null

  constructor(status: number, body: string) {
    super(`the edge answered ${status}: ${body.slice(0, 200)}`)
    this.code = codeOf(body)
  }
}

function codeOf(body: string): string | null {
  try {
    return errorReply.parse(JSON.parse(body)).error.code
  } catch {
    return null
  }
}

/** Whoever takes a report. Resolves with the reply's body on 2xx, rejects otherwise. */
export interface EdgePort {
  post(route: string, requestId: string, value: unknown, timeoutMs: number): Promise<unknown>
}

/** Several edges as one: whichever answered last is asked first, the others when it does not. */
export class EdgeFailover implements EdgePort {
  readonly #edges: EdgePort[]

  constructor(edges: readonly EdgePort[]) {
    this.#edges = [...edges]
  }

  async post(
    route: string,
    requestId: string,
    value: unknown,
    timeoutMs: number,
  ): Promise<unknown> {
    let failure: unknown = new Error('there is no edge')
    for (const edge of [...this.#edges]) {
      try {
        return await edge.post(route, requestId, value, timeoutMs)
      } catch (error) {
        failure = error
        this.#edges.push(...this.#edges.splice(this.#edges.indexOf(edge), 1))
      }
    }
    throw failure
  }
}

export class EdgeClient implements EdgePort {
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
    if (!response.ok) throw new EdgeRefusal(response.status, text)
    return text === '' ? null : JSON.parse(text)
  }
}
