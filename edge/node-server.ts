/**
 * The edge on Node: listens, and stops in order. Stopping refuses new connections, lets replies and
 * streams finish within the grace, cuts the rest, and only then lets the caller close the database.
 */
import { once } from 'node:events'
import type { Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import type { Hono } from 'hono'
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

/** Rejects when the port is not to be had. */
export async function startNodeServer(
  app: Pick<Hono<EdgeEnv>, 'fetch'>,
  { port, address }: { readonly port: number; readonly address: string },
): Promise<NodeServer> {
  // An upload may take its time; the routes have limits of their own.
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      requestTimeout: 0,
      headersTimeout: 15_000,
      keepAliveTimeout: IDLE_CONNECTION_MS,
      highWaterMark: STREAM_BUFFER_BYTES,
    },
  }) as Server
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
      stopping ??= stopServer(server, graceMs)
      return stopping
    },
  }
}

async function stopServer(server: Server, graceMs: number): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  // Replies that began before could not say that their connection ends.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS)
  const cut = setTimeout(() => server.closeAllConnections(), graceMs)
  await closed
  clearInterval(sweep)
  clearTimeout(cut)
}
