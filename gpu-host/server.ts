/**
 * The host's HTTP face: a table of routes, each signed except the two that it lists as public.
 * Every refusal is a HostErrorBody; every reply carries the request id that it answers.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AdapterIntake, AdapterUpload } from './adapter-upload.ts'
import type { Clock } from './clock.ts'
import type { ServerLimits } from './config.ts'
import { type DirectStore, DirectUploads } from './direct-uploads.ts'
import { HostError, toHostError } from './errors.ts'
import { handleCancel, handleGenerate, readGranted } from './generate-route.ts'
import type { GrantVerifier } from './grants.ts'
import { errorText, type Log } from './log.ts'
import {
  type GrantClaims,
  type Heartbeat,
  HOST_ROUTES,
  type HostWish,
  prefetchRequest,
  type UploadFiles,
  uploadRequest,
} from './protocol.ts'
import { parseJsonBody } from './request-body.ts'
import type { RequestRunner } from './scheduler/request-runner.ts'
import type { HostMetrics } from './telemetry/metrics.ts'
import type { Tracing } from './tracing/tracing.ts'
import { UploadPlaces } from './upload-places.ts'

export interface ServerDeps {
  readonly scheduler: RequestRunner
  readonly intake: AdapterIntake
  /** null = the store takes no files directly. */
  readonly direct: DirectStore | null
  readonly grants: GrantVerifier
  readonly metrics: HostMetrics
  readonly tracing: Tracing
  readonly baseModel: string
  readonly stagingDirectory: string
  readonly clock: Clock
  readonly log: Log
  readonly limits: ServerLimits
  /** Brings an adapter into RAM; resolves when it is there. */
  readonly prefetch: (digest: string) => Promise<void>
  readonly status: () => Heartbeat
  readonly obey: (wish: HostWish) => void
}

type Reply = (response: ServerResponse) => void
type SignedRoute = (
  claims: GrantClaims,
  request: IncomingMessage,
  response: ServerResponse,
) => Promise<Reply | null>

export function createHostServer(deps: ServerDeps): Server {
  const { limits } = deps
  const places = new UploadPlaces(deps.stagingDirectory, limits.uploadsMax)
  const upload = new AdapterUpload({ ...deps, places })
  const uploads = new DirectUploads({ ...deps, places })
  const assertServing = (): void => {
    if (deps.scheduler.isDraining) throw new HostError('host_draining', 'the host is shutting down')
  }
  const readFiles = async (claims: GrantClaims, request: IncomingMessage): Promise<UploadFiles> => {
    assertServing()
    return parseJsonBody(uploadRequest, await readGranted(deps, claims, request)).files
  }
  const obey = async (
    wish: HostWish,
    claims: GrantClaims,
    request: IncomingMessage,
  ): Promise<Reply> => {
    await readGranted(deps, claims, request)
    deps.obey(wish)
    return json(200, deps.status())
  }
  const signed: Record<string, SignedRoute> = {
    [HOST_ROUTES.generate]: async (claims, request, response) => {
      await handleGenerate(deps, claims, request, response)
      return null
    },
    [HOST_ROUTES.cancel]: async (claims, request) =>
      json(202, await handleCancel(deps, claims, request)),
    // Streamed, so the grant cannot cover the bytes; the receipt's digest names them.
    [HOST_ROUTES.adapters]: async (claims, request) => {
      assertServing()
      const receipt = await upload.handle(request)
      if (claims.adapter_digest !== null && claims.adapter_digest !== receipt.digest) {
        throw new HostError('grant_mismatch', 'the grant is for another adapter', {
          param: 'adapter_digest',
        })
      }
      return json(200, receipt)
    },
    [HOST_ROUTES.uploadPlan]: async (claims, request) =>
      json(200, await uploads.plan(claims, await readFiles(claims, request))),
    [HOST_ROUTES.uploadComplete]: async (claims, request) =>
      json(200, await uploads.complete(claims, await readFiles(claims, request))),
    [HOST_ROUTES.prefetch]: async (claims, request) => {
      const body = await readGranted(deps, claims, request)
      const { adapter_digest } = parseJsonBody(prefetchRequest, body)
      deps.prefetch(adapter_digest).catch((error: unknown) => {
        deps.log('warn', 'prefetch failed', { adapter_digest, reason: errorText(error) })
      })
      return json(202, { adapter_digest })
    },
    [HOST_ROUTES.residency]: async (claims, request) => {
      await readGranted(deps, claims, request)
      return json(200, deps.status())
    },
    [HOST_ROUTES.drain]: (claims, request) => obey('drain', claims, request),
    [HOST_ROUTES.resume]: (claims, request) => obey('serve', claims, request),
  }
  const server = createServer(
    { maxHeaderSize: limits.headerBytesMax, requestTimeout: limits.uploadTimeoutMs },
    (request, response) => {
      // A socket that dies under a write is seen by `close`; without a listener it would throw.
      response.on('error', () => {})
      void answer(deps, signed, request, response)
    },
  )
  server.headersTimeout = limits.bodyTimeoutMs
  server.maxConnections = limits.connectionsMax
  return server
}

async function answer(
  deps: ServerDeps,
  signed: Record<string, SignedRoute>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  try {
    if (request.method === 'GET' && path === HOST_ROUTES.health) return health(deps)(response)
    if (request.method === 'GET' && path === HOST_ROUTES.metrics)
      return await metrics(deps, response)
    const route = Object.hasOwn(signed, path) ? signed[path] : undefined
    if (route === undefined) throw new HostError('not_found', 'no such route')
    if (request.method !== 'POST') throw new HostError('method_not_allowed', 'use POST')
    const claims = await deps.grants.verify(request.headers.authorization, path)
    response.setHeader('x-request-id', claims.request_id)
    const reply = await route(claims, request, response)
    reply?.(response)
  } catch (error) {
    refuse(deps, toHostError(error, 'internal_error', 'the host failed'), request, response)
  }
}

/** A client that is still sending gets this long to read why it was refused. */
const LINGER_MS = 2000

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
  if (!request.complete) {
    // Closing with unread bytes resets the connection, and the client would never see the reason.
    response.setHeader('connection', 'close')
    request.resume()
    const cancel = deps.clock.setTimer(LINGER_MS, () => request.destroy())
    request.once('close', cancel)
  }
  json(error.status, error.toBody())(response)
}

function json(status: number, body: unknown): Reply {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    response.end(JSON.stringify(body))
  }
}

/** 200 while it serves, 503 with the reason when it should get no new requests. */
function health({ scheduler }: ServerDeps): Reply {
  if (scheduler.isDraining) return json(503, { status: 'draining' })
  if (scheduler.isFailing) return json(503, { status: 'engine_failed' })
  return json(200, { status: 'ready' })
}

async function metrics(deps: ServerDeps, response: ServerResponse): Promise<void> {
  const { registry } = deps.metrics
  const text = await registry.metrics()
  response.writeHead(200, { 'content-type': registry.contentType })
  response.end(text)
}
