/**
 * Cuts connections whose client has stopped: one that takes no bytes of its reply, and one that
 * goes on sending a body after it was answered. Node cuts neither: what is written to a client that
 * does not read waits for ever, and so does the rest of a body that nobody wants. Of both ends of
 * the wire, on Node alone.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type Pace, timeFor } from './pace.ts'

export type CutReason = 'reply_not_read' | 'body_not_wanted'

export interface ConnectionGuardOptions {
  /** How fast a client must take what waits for it. */
  readonly pace: Pace
  /** A client that is still sending gets this long to read why it was answered already. */
  readonly lingerMs: number
  /** From one look at the connections to the next. */
  readonly sweepMs: number
  readonly onCut?: (reason: CutReason) => void
}

/** What of a connection's writes its client has taken, as seen from time to time. */
export class WriteProgress {
  #takenBytes = -1
  #sinceMs = 0

  /** Milliseconds for which nothing of what waits was taken; 0 when nothing waits. */
  waitedMs(waitingBytes: number, takenBytes: number, nowMs: number): number {
    if (waitingBytes === 0 || takenBytes !== this.#takenBytes) {
      this.#takenBytes = waitingBytes === 0 ? -1 : takenBytes
      this.#sinceMs = nowMs
    }
    return nowMs - this.#sinceMs
  }
}

/** From now until the server closes. */
export function guardConnections(server: Server, options: ConnectionGuardOptions): void {
  const { pace, lingerMs, sweepMs, onCut = () => {} } = options
  const sockets = new Map<Socket, WriteProgress>()
  const cut = (socket: Socket, reason: CutReason): void => {
    if (socket.destroyed) return
    socket.destroy()
    onCut(reason)
  }
  server.on('connection', (socket: Socket) => {
    sockets.set(socket, new WriteProgress())
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    response.once('finish', () => {
      if (request.complete) return
      const timer = setTimeout(() => {
        if (!request.complete) cut(request.socket, 'body_not_wanted')
      }, lingerMs)
      timer.unref()
    })
  })
  const sweep = setInterval(() => {
    const nowMs = performance.now()
    for (const [socket, progress] of sockets) {
      const { writableLength: waiting } = socket
      // What was given to the operating system as a whole: a write counts when all of it is taken.
      const taken = waiting === 0 ? 0 : socket.bytesWritten - waiting
      const waitedMs = progress.waitedMs(waiting, taken, nowMs)
      if (waitedMs > timeFor(pace, waiting)) cut(socket, 'reply_not_read')
    }
  }, sweepMs)
  sweep.unref()
  server.once('close', () => clearInterval(sweep))
}
