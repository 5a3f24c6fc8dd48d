/**
 * The host's HTTP face: asks the table of routes, checks the grant of what is not public there, and
 * bounds what a connection may cost. Every refusal is a HostErrorBody; every reply carries the
 * request id that it answers.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { HostError, toHostError } from './errors.ts'
import type { GrantVerifier } from './grants.ts'
import { errorText } from './log.ts'
import { REQUEST_ID_HEADER } from './protocol.ts'
import { createRoutes, type HostRoute, json, type RouteDeps } from './routes.ts'
import { guardConnections } from './wire/connection-guard.ts'

export interface ServerDeps extends RouteDeps {
  readonly grants: GrantVerifier
}

/** A client that is still sending gets this long to read why it was refused. */
const LINGER_MS = 2000
/** How often connections are looked at: late headers, replies that nobody reads. */
const SWEEP_MS = 1000

export function createHostServer(deps: ServerDeps): Server {
  const { limits, log } = deps
  const routes = createRoutes(deps)
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: limits.bodyTimeoutMs,
      requestTimeout: limits.uploadTimeoutMs,
      connectionsCheckingInterval: SWEEP_MS,
    },
    (request, response) => {
      // A socket that dies under a write is seen by `close`; without a listener it would throw.
      response.on('error', () => {})
      void answer(deps, routes, request, response)
    },
  )
  server.maxConnections = limits.connectionsMax
  guardConnections(server, {
    pace: { graceMs: limits.writeTimeoutMs, bytesPerSecond: limits.uploadPace.bytesPerSecond },
    lingerMs: LINGER_MS,
    sweepMs: Math.min(SWEEP_MS, limits.writeTimeoutMs),
    onCut: (reason) => log('warn', 'connection cut', { reason }),
  })
  return server
}

async function answer(
  deps: ServerDeps,
  routes: ReadonlyMap<string, HostRoute>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [path = '/', query] = (request.url ?? '/').split('?', 2)
  const { method = '' } = request
  try {
    const route = routes.get(path)
    // A grant covers no query, so what is signed has none.
    const isKnown = route !== undefined && (route.access === 'public' || query === undefined)
    if (!isKnown) throw new HostError('not_found', 'no such route')
    if (method !== route.method) {
      throw new HostError('method_not_allowed', `use ${route.method}`)
    }
    if (route.access === 'public') return (await route.answer())(response)
    const claims = await deps.grants.verify(request.headers.authorization, { method, route: path })
    response.setHeader(REQUEST_ID_HEADER, claims.request_id)
    const reply = await route.handle(claims, request, response)
    reply?.(response)
  } catch (error) {
    refuse(deps, toHostError(error, 'internal_error', 'the host failed'), request, response)
  }
}

function refuse(
  deps: ServerDeps,
  error: HostError,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  deps.metrics.refusals.inc({ code: error.code })
  if (error.status >= 500) {
    const fields = { path: request.url ?? '', code: error.code, reason: errorText(error) }
    deps.log(error.isRetryable ? 'warn' : 'error', 'request failed', fields)
  }
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  if (error.retryAfterMs !== null) {
    response.setHeader('retry-after', String(Math.ceil(error.retryAfterMs / 1000)))
  }
  // What is still to come is read and dropped, as long as guardConnections lets it: a connection
  // that closes with unread bytes is reset, and its client would never see the reason.
  if (!request.complete) request.resume()
  json(error.status, error.toBody())(response)
}
