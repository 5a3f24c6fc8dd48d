/**
 * How a call gets to a host and its reply back: by `fetch`, wherever there is no better way; Node's
 * is in node-transport.ts.
 */
import { REQUEST_ID_HEADER } from '#protocol'
import type { Log } from '../log.ts'
import { ForeignReply, requireOwn } from './own-reply.ts'

export interface HostPost {
  readonly url: string
  /** Goes along as a header; the reply names it, too. */
  readonly requestId: string
  readonly headers: Readonly<Record<string, string>>
  /** A stream is sent as it comes, and once. */
  readonly body: string | ReadableStream<Uint8Array>
  /** Ends the call, the reading of its reply too. */
  readonly signal: AbortSignal
}

export interface HostReply {
  readonly status: number
  /**
   * The next piece of the body as it arrives; null = that was all. Rejects when the connection
   * breaks. Whoever stops reading leaves the connection as it is.
   */
  read(): Promise<Uint8Array | null>
}

/**
 * Rejects when there is no reply; what was thrown, or a cause of it, has the system's code. With
 * ForeignReply where the reply names another request: nothing of it is read. Follows no redirect.
 */
export type HostTransport = (call: HostPost) => Promise<HostReply>

export function fetchTransport(fetch: typeof globalThis.fetch): HostTransport {
  return async ({ url, requestId, ...init }) => {
    const headers = { ...init.headers, [REQUEST_ID_HEADER]: requestId }
    // A host answers for itself: another place that it names is not asked.
    const rest = { method: 'POST', redirect: 'manual' } as const
    // A body that is a stream must say so.
    const stream = typeof init.body === 'string' ? {} : ({ duplex: 'half' } as const)
    const response = await fetch(url, { ...rest, ...stream, ...init, headers })
    return toReply(await requireOwn(response, requestId))
  }
}

function toReply({ status, body }: Response): HostReply {
  const reader = body?.getReader() ?? null
  return {
    status,
    async read() {
      const next = await reader?.read()
      return next?.value ?? null
    },
  }
}

/** Says so where a host answers another request: one that is out of step is to be looked at. */
export function tellForeign(send: HostTransport, log: Log): HostTransport {
  return async (call) => {
    try {
      return await send(call)
    } catch (error) {
      if (error instanceof ForeignReply) {
        log('error', 'a host answered another request: its connection is closed', {
          request_id: call.requestId,
        })
      }
      throw error
    }
  }
}

export function isOk({ status }: HostReply): boolean {
  return status >= 200 && status < 300
}

/** All of it, so that its connection can be used again. */
export async function readText(reply: HostReply): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for (let bytes = await reply.read(); bytes !== null; bytes = await reply.read()) {
    text += decoder.decode(bytes, { stream: true })
  }
  return text + decoder.decode()
}
