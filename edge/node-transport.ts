/**
 * Calls to hosts on Node: undici's own dispatch. `fetch` makes a request, a reply, their headers
 * and streams of each, which takes several times as long as what is needed of them here.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { Readable } from 'node:stream'
import { Agent, type Dispatcher } from 'undici'
import { REQUEST_ID_HEADER } from '#protocol'
import type { HostReply, HostTransport } from './pool/host-transport.ts'
import { ForeignReply, isForeign } from './pool/own-reply.ts'

/** Connections are kept by host, and closed with the process. */
export function createNodeTransport(): HostTransport {
  // How long a reply may take is for each call's signal to say.
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0 })
  return ({ url, requestId, body, signal, ...rest }) => {
    const { origin, pathname: path } = new URL(url)
    const headers = { ...rest.headers, [REQUEST_ID_HEADER]: requestId }
    return new Promise((resolve, reject) => {
      const call = new Call(requestId, signal, resolve, reject)
      // What has gone already is not sent.
      if (signal.aborted) return call.onAbort()
      // Of a stream no more than one piece waits here.
      const content = typeof body === 'string' ? body : Readable.from(body, { highWaterMark: 1 })
      agent.dispatch({ origin, path, method: 'POST', headers, body: content }, call)
    })
  }
}

/** One call, and its reply once there is one. */
class Call implements Dispatcher.DispatchHandler, HostReply {
  status = 0
  readonly #requestId: string
  readonly #signal: AbortSignal
  readonly #resolve: (reply: HostReply) => void
  readonly #reject: (error: unknown) => void
  #controller: Dispatcher.DispatchController | null = null
  /** Arrived, and not read. */
  #pieces: Uint8Array[] = []
  #isOver = false
  /** Why it broke; null = it did not. */
  #failure: { readonly error: unknown } | null = null
  /** Whoever waits for the next piece. */
  #reader: PromiseWithResolvers<Uint8Array | null> | null = null

  constructor(
    requestId: string,
    signal: AbortSignal,
    resolve: (reply: HostReply) => void,
    reject: (error: unknown) => void,
  ) {
    this.#requestId = requestId
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
    signal.addEventListener('abort', this.onAbort, { once: true })
  }

  read(): Promise<Uint8Array | null> {
    const piece = this.#pieces.shift()
    if (piece !== undefined) {
      if (this.#pieces.length === 0) this.#controller?.resume()
      return Promise.resolve(piece)
    }
    if (this.#failure !== null) return Promise.reject(this.#failure.error)
    if (this.#isOver) return Promise.resolve(null)
    this.#reader = Promise.withResolvers()
    return this.#reader.promise
  }

  readonly onAbort = (): void => {
    const { reason } = this.#signal
    this.#controller?.abort(reason instanceof Error ? reason : new Error(String(reason)))
    this.#fail(reason)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    // It waited for a connection.
    if (this.#signal.aborted) this.onAbort()
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    const answeredId = headers[REQUEST_ID_HEADER]
    if (typeof answeredId === 'string' && isForeign(answeredId, this.#requestId)) {
      // Its connection goes.
      controller.abort(new ForeignReply())
      return
    }
    this.status = status
    this.#resolve(this)
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Uint8Array): void {
    // Comes each time that the host may go on.
    if (piece.length === 0) return
    if (this.#reader !== null) {
      this.#reader.resolve(piece)
      this.#reader = null
      return
    }
    this.#pieces.push(piece)
    // The host shall wait for whoever reads.
    controller.pause()
  }

  onResponseEnd(): void {
    this.#isOver = true
    this.#signal.removeEventListener('abort', this.onAbort)
    this.#reader?.resolve(null)
    this.#reader = null
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    this.#fail(error)
  }

  #fail(error: unknown): void {
    if (this.#isOver || this.#failure !== null) return
    this.#failure = { error }
    this.#signal.removeEventListener('abort', this.onAbort)
    // Only one of the two waits.
    this.#reject(error)
    this.#reader?.reject(error)
    this.#reader = null
  }
}
