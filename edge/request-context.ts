/**
 * What every request carries, and the middleware that gives it: id, log line, counters, headers.
 */
import type { Context, MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import { createId } from '#db/ids.ts'
import type { Span } from '#tracing/tracer.ts'
import type { Identity } from './auth/authenticate.ts'
import type { Deps } from './deps.ts'
import { EDGE_ERRORS, type EdgeError, errorText, toEdgeError } from './errors.ts'
import type { KeepAlive } from './keep-alive.ts'
import type { LogLevel } from './log.ts'

export interface EdgeEnv {
  Variables: {
    /**
     * `req_…`, made here: a client cannot choose what is unique for ever. The time in it decides
     * the period that the request is billed in.
     */
    requestId: string
    /** Of the request; its children are the calls to hosts. */
    span: Span
    /** May be called when the reply has left, too. */
    keepAlive: KeepAlive
    /** Set once the caller is known; for the log. */
    identity?: Identity
    /** Why the request was refused. */
    error?: EdgeError
  }
}
export type EdgeContext = Context<EdgeEnv>

export function requestContext(deps: Deps): MiddlewareHandler<EdgeEnv> {
  return async function giveContext(c, next) {
    const startMs = deps.monotonicMs()
    c.set('requestId', createId('req', deps.nowMs()))
    c.set('keepAlive', toKeepAlive(c))
    c.set('span', beginSpan(deps, c))
    await next()
    const ms = Math.round(deps.monotonicMs() - startMs)
    // Hono's own way with headers of a finished reply makes the reply anew for each.
    const { status, headers } = c.res
    headers.set('x-request-id', c.get('requestId'))
    headers.set('openai-processing-ms', String(ms))
    const route = routePath(c, -1)
    deps.metrics.requests.add({ route, status: String(status) })
    deps.metrics.requestSeconds.observe({}, ms / 1000)
    const error = c.get('error')
    if (error !== undefined) deps.metrics.refusals.add({ code: error.code })
    logRequest(deps, c, status, ms)
    endSpan(c, route)
  }
}

/** What hosts and probes ask each second, and nobody looks for while it goes well. */
const UNWATCHED = /^\/(internal\/|healthz$|metrics$)/

function beginSpan(deps: Deps, c: EdgeContext): Span {
  const headers = {
    traceparent: c.req.header('traceparent') ?? null,
    tracestate: c.req.header('tracestate') ?? null,
  }
  if (deps.config.tracing === null || UNWATCHED.test(c.req.path)) return deps.tracing.pass(headers)
  return deps.tracing.begin(headers, c.get('keepAlive'))
}

/** It lasts until its last call to a host has ended, which of a stream is long after this. */
function endSpan(c: EdgeContext, route: string): void {
  const span = c.get('span')
  const { method } = c.req
  const { status } = c.res
  const identity = c.get('identity')
  span.set({
    'http.request.method': method,
    'http.route': route,
    'http.response.status_code': status,
    'nozzle.request_id': c.get('requestId'),
    'nozzle.tenant_id': identity?.kind === 'tenant' ? identity.tenantId : undefined,
    // Of a server's span only what is the server's fault is an error.
    'error.type': status >= 500 ? (c.get('error')?.code ?? String(status)) : undefined,
  })
  span.end(`${method} ${route}`)
}

function logRequest(deps: Deps, c: EdgeContext, status: number, ms: number): void {
  const identity = c.get('identity')
  const error = c.get('error')
  deps.log(logLevelOf(c.req.path, status), 'request', {
    request_id: c.get('requestId'),
    trace_id: c.get('span').context.traceId,
    method: c.req.method,
    path: c.req.path,
    status,
    ms,
    ...(identity?.kind === 'tenant' && { tenant_id: identity.tenantId, key_id: identity.keyId }),
    ...(error && { code: error.code, reason: errorText(error) }),
  })
}

function logLevelOf(path: string, status: number): LogLevel {
  if (status >= 500) return 'error'
  return status < 400 && UNWATCHED.test(path) ? 'debug' : 'info'
}

/** Anything thrown → the one shape of errors. */
export function toErrorResponse(thrown: unknown, c: EdgeContext): Response {
  const error = toEdgeError(thrown)
  c.set('error', error)
  return c.json(error.toBody(), EDGE_ERRORS[error.code].status as 500, error.toHeaders())
}

/** Throws unless a key is presented that may call this edge at all. */
export async function identify(deps: Deps, c: EdgeContext): Promise<Identity> {
  const authorization = c.req.header('authorization') ?? null
  const identity = await deps.authenticator.authenticate(authorization, c.get('keepAlive'))
  c.set('identity', identity)
  return identity
}

/** Once a request: Hono answers "not a Worker" with an error, which takes its time. */
function toKeepAlive(c: EdgeContext): KeepAlive {
  try {
    const context = c.executionCtx
    return (work) => context.waitUntil(work)
  } catch {
    // On Node nothing stops the work.
    return () => {}
  }
}
