/**
 * The table of the host's routes. What is not `public` in it is called with a grant or not at all:
 * the server asks this table alone, and a test asks it which routes there are.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AdapterIntake, AdapterUpload } from './adapter-upload.ts'
import type { Clock } from './clock.ts'
import type { ServerLimits } from './config.ts'
import { type DirectStore, DirectUploads } from './direct-uploads.ts'
import { HostError } from './errors.ts'
import { handleCancel, handleGenerate, readGranted } from './generate-route.ts'
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

export interface RouteDeps {
  readonly scheduler: RequestRunner
  readonly intake: AdapterIntake
  /** null = the store takes no files directly. */
  readonly direct: DirectStore | null
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

export type Reply = (response: ServerResponse) => void
type SignedHandler = (
  claims: GrantClaims,
  request: IncomingMessage,
  response: ServerResponse,
) => Promise<Reply | null>

export type HostRoute =
  /** For probes and scrapers: says nothing of any tenant. */
  | { readonly access: 'public'; readonly method: 'GET'; readonly answer: () => Promise<Reply> }
  | { readonly access: 'signed'; readonly method: 'POST'; readonly handle: SignedHandler }

/** By path. */
export function createRoutes(deps: RouteDeps): ReadonlyMap<string, HostRoute> {
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
  const obey =
    (wish: HostWish): SignedHandler =>
    async (claims, request) => {
      await readGranted(deps, claims, request)
      deps.obey(wish)
      return json(200, deps.status())
    }
  return new Map<string, HostRoute>([
    [HOST_ROUTES.health, open(async () => health(deps))],
    [HOST_ROUTES.metrics, open(() => metrics(deps))],
    [
      HOST_ROUTES.generate,
      signed(async (claims, request, response) => {
        await handleGenerate(deps, claims, request, response)
        return null
      }),
    ],
    [
      HOST_ROUTES.cancel,
      signed(async (claims, request) => json(202, await handleCancel(deps, claims, request))),
    ],
    [
      // Streamed, so the grant cannot cover the bytes; the receipt's digest names them.
      HOST_ROUTES.adapters,
      signed(async (claims, request) => {
        assertServing()
        const receipt = await upload.handle(request, claims.tenant_id)
        if (claims.adapter_digest !== null) assertDigest(claims, receipt.digest)
        return json(200, receipt)
      }),
    ],
    [
      HOST_ROUTES.uploadPlan,
      signed(async (claims, request) =>
        json(200, await uploads.plan(claims, await readFiles(claims, request))),
      ),
    ],
    [
      HOST_ROUTES.uploadComplete,
      signed(async (claims, request) =>
        json(200, await uploads.complete(claims, await readFiles(claims, request))),
      ),
    ],
    [
      HOST_ROUTES.prefetch,
      signed(async (claims, request) => {
        const body = await readGranted(deps, claims, request)
        const { adapter_digest } = parseJsonBody(prefetchRequest, body)
        assertDigest(claims, adapter_digest)
        deps.prefetch(adapter_digest).catch((error: unknown) => {
          deps.log('warn', 'prefetch failed', { adapter_digest, reason: errorText(error) })
        })
        return json(202, { adapter_digest })
      }),
    ],
    [
      HOST_ROUTES.residency,
      signed(async (claims, request) => {
        await readGranted(deps, claims, request)
        return json(200, deps.status())
      }),
    ],
    [HOST_ROUTES.drain, signed(obey('drain'))],
    [HOST_ROUTES.resume, signed(obey('serve'))],
  ])
}

function open(answer: () => Promise<Reply>): HostRoute {
  return { access: 'public', method: 'GET', answer }
}

function signed(handle: SignedHandler): HostRoute {
  return { access: 'signed', method: 'POST', handle }
}

function assertDigest({ adapter_digest: granted }: GrantClaims, actual: string): void {
  if (granted === actual) return
  throw new HostError('grant_mismatch', 'the grant is for another adapter', {
    param: 'adapter_digest',
  })
}

export function json(status: number, body: unknown): Reply {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    response.end(JSON.stringify(body))
  }
}

/** 200 while it serves, 503 with the reason when it should get no new requests. */
function health({ scheduler }: RouteDeps): Reply {
  if (scheduler.isDraining) return json(503, { status: 'draining' })
  if (scheduler.isFailing) return json(503, { status: 'engine_failed' })
  return json(200, { status: 'ready' })
}

async function metrics(deps: RouteDeps): Promise<Reply> {
  const { registry } = deps.metrics
  const text = await registry.metrics()
  return (response) => {
    response.writeHead(200, { 'content-type': registry.contentType })
    response.end(text)
  }
}
