/**
 * The edge on Node: listens, bounds what a connection may cost, and stops in order. Stopping
 * refuses new connections, lets replies and streams finish within the grace, cuts the rest, and
 * only then lets the caller close the database.
 */
import { once } from 'node:events'
import { type Server, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
import { type CutReason, guardConnections } from '#wire/connection-guard.ts'
import type { Pace } from '#wire/pace.ts'
import { EDGE_ERRORS, EdgeError, type EdgeErrorCode } from './errors.ts'
import {
  CONNECTION_SWEEP_MS,
  CONNECTIONS_MAX,
  HEADER_BYTES_MAX,
  HEADERS_TIMEOUT_MS,
  LINGER_MS,
  REPLY_PACE,
  UPLOAD_TIMEOUT_MS,
} from './limits.ts'
import type { EdgeEnv } from './request-context.ts'

export interface NodeServer {
  readonly url: string
  /** Resolves when the last reply has left or the grace is over. Idempotent. */
  stop(graceMs: number): Promise<void>
}

const SWEEP_MS = 100
/**
 * Of every stream, in bytes: the next chunk of a reply is taken when the operating system has the
 * last, so what a client that left did not get is one chunk and what its connection held.
 */
const STREAM_BUFFER_BYTES = 1

/**
 * Longer than clients and load balancers keep an idle connection (60 s is common): the one that
 * closes first must be the one that sends, or a request meets a connection that just closed.
 */
const IDLE_CONNECTION_MS = 75_000

export interface NodeServerOptions {
  readonly port: number
  readonly address: string
  /** How fast a client must take its reply; absent = REPLY_PACE. */
  readonly replyPace?: Pace
  /** Absent = HEADERS_TIMEOUT_MS. */
  readonly headersTimeoutMs?: number
  readonly onCut?: (reason: CutReason) => void
}
/** What a Worker has for work that outlives its request; here nothing stops it. */
const NODE_CONTEXT = { waitUntil() {}, passThroughOnException() {}, props: {} }

/** Rejects when the port is not to be had. */
export async function startNodeServer(
  app: Pick<Hono<EdgeEnv>, 'fetch'>,
  options: NodeServerOptions,
): Promise<NodeServer> {
  const { port, address, replyPace = REPLY_PACE, onCut } = options
  const server = createAdaptorServer({
    fetch: (request, env) => app.fetch(request, env, NODE_CONTEXT),
    serverOptions: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: options.headersTimeoutMs ?? HEADERS_TIMEOUT_MS,
      // An upload may take its time; the routes have limits of their own.
      requestTimeout: UPLOAD_TIMEOUT_MS,
      connectionsCheckingInterval: CONNECTION_SWEEP_MS,
      keepAliveTimeout: IDLE_CONNECTION_MS,
      highWaterMark: STREAM_BUFFER_BYTES,
    },
  }) as Server
  server.maxConnections = CONNECTIONS_MAX
  refuseUnread(server)
  const unused = trackUnused(server)
  guardConnections(server, {
    pace: replyPace,
    lingerMs: LINGER_MS,
    sweepMs: Math.min(CONNECTION_SWEEP_MS, replyPace.graceMs),
    ...(onCut && { onCut }),
  })
  server.listen(port, address)
  await once(server, 'listening')
  const bound = server.address()
  const boundPort = typeof bound === 'object' && bound !== null ? bound.port : port
  const host = address.includes(':') ? `[${address}]` : address
  let stopping: Promise<void> | null = null
  server.prependListener('request', (_request, response) => {
    // A connection that is kept alive would hold the stop up until the grace is over.
    if (stopping !== null) response.setHeader('connection', 'close')
  })
  return {
    url: `http://${host}:${boundPort}`,
    stop(graceMs) {
      stopping ??= stopServer(server, unused, graceMs)
      return stopping
    },
  }
}

/**
 * Connections that no request has come over: browsers and load balancers open some beforehand. Node
 * does not count them as idle, since it waits for their first request's headers.
 */
function trackUnused(server: Server): ReadonlySet<Socket> {
  const unused = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
  server.on('request', ({ socket }) => unused.delete(socket))
  return unused
}

async function stopServer(
  server: Server,
  unused: ReadonlySet<Socket>,
  graceMs: number,
): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  const sweep = setInterval(() => {
    // Replies that began before could not say that their connection ends.
    server.closeIdleConnections()
    for (const socket of unused) if (socket.bytesRead === 0) socket.destroy()
  }, SWEEP_MS)
  const cut = setTimeout(() => server.closeAllConnections(), graceMs)
  await closed
  clearInterval(sweep)
  clearTimeout(cut)
}

/** By what Node says of bytes that are no request. */
const UNREAD: Readonly<Record<string, EdgeErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
}

/** What never becomes a request is refused in the same words as one. */
function refuseUnread(server: Server): void {
  const answering = new WeakSet<Duplex>()
  server.on('request', ({ socket }, response) => {
    answering.add(socket)
    response.once('close', () => answering.delete(socket))
  })
  server.on('clientError', (cause: NodeJS.ErrnoException, socket) => {
    // In the middle of a reply it would read as a part of that.
    if (socket.writable && !answering.has(socket) && cause.code !== 'ECONNRESET') {
      socket.end(toRefusal(cause))
      setTimeout(() => socket.destroy(), LINGER_MS).unref()
    } else {
      socket.destroy()
    }
  })
}

/** A whole reply, as it goes over the wire. */
function toRefusal(cause: NodeJS.ErrnoException): string {
  const code = UNREAD[cause.code ?? ''] ?? 'invalid_request'
  const { status } = EDGE_ERRORS[code]
  const error = new EdgeError(code, 'the request is no valid HTTP, too large or too slow')
  const body = JSON.stringify(error.toBody())
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'connection: close',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
  ]
  return `${head.join('\r\n')}\r\n\r\n${body}`
}
