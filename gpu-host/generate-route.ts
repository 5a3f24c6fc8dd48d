/**
 * POST generate: a granted request → a stream of GenerateEvents. A refusal that comes before the
 * first token, within the time that headers are held back, has its own status; one that comes later
 * is an `error` event. A client that leaves ends its request at once. The next event is asked for
 * when the connection has the last: what was asked for is what the request owes.
 *
 * POST cancel: the edge says that its client has left, and how much of the answer it got.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from './clock.ts'
import type { ServerLimits } from './config.ts'
import { HOST_ERRORS, HostError, type HostErrorCode } from './errors.ts'
import { assertBodyCovered } from './grants.ts'
import type { Log } from './log.ts'
import {
  type CancelReceipt,
  cancelRequest,
  type GenerateEvent,
  type GenerateRequest,
  type GrantClaims,
  generateRequest,
} from './protocol.ts'
import { parseJsonBody, readBody } from './request-body.ts'
import type { Generation, RequestRunner } from './scheduler/request-runner.ts'
import { EventStream } from './sse.ts'
import { RequestWatch } from './telemetry/request-watch.ts'
import type { Tracing } from './tracing/tracing.ts'

export interface GenerateDeps {
  readonly scheduler: RequestRunner
  readonly baseModel: string
  readonly clock: Clock
  readonly limits: ServerLimits
  readonly tracing: Tracing
  readonly log: Log
}

export async function handleGenerate(
  deps: GenerateDeps,
  claims: GrantClaims,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const watch = new RequestWatch(deps, claims, request.headers)
  try {
    await generateFor(deps, { claims, watch }, request, response)
  } catch (error) {
    watch.refused(error)
    throw error
  } finally {
    watch.close()
  }
}

async function generateFor(
  deps: GenerateDeps,
  { claims, watch }: { readonly claims: GrantClaims; readonly watch: RequestWatch },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { scheduler } = deps
  const body = await readGranted(deps, claims, request)
  const generate = withinGrant(parseJsonBody(generateRequest, body), claims)
  watch.asked(generate)
  if (generate.base_model !== deps.baseModel) {
    throw new HostError('invalid_request', `this host serves ${deps.baseModel}`, {
      param: 'base_model',
    })
  }
  const generation = await scheduler.submit(generate)
  const stopWatching = onClientGone(response, () => generation.cancel())
  try {
    await streamEvents(deps, { generation, watch }, response)
  } finally {
    stopWatching()
  }
}

export async function handleCancel(
  deps: GenerateDeps,
  claims: GrantClaims,
  request: IncomingMessage,
): Promise<CancelReceipt> {
  const cancel = parseJsonBody(cancelRequest, await readGranted(deps, claims, request))
  if (cancel.request_id !== claims.request_id) {
    throw new HostError('grant_mismatch', 'the grant is for another request_id', {
      param: 'request_id',
    })
  }
  return { outcome: deps.scheduler.cancel(cancel) }
}

/** The body that the grant covers, and no other. */
export async function readGranted(
  { clock, limits }: Pick<GenerateDeps, 'clock' | 'limits'>,
  claims: GrantClaims,
  request: IncomingMessage,
): Promise<Buffer> {
  const body = await readBody(request, clock, {
    bytesMax: limits.requestBytesMax,
    timeoutMs: limits.bodyTimeoutMs,
  })
  assertBodyCovered(claims, body)
  return body
}

/**
 * An edge that gives a request up closes its connection. Its half of it is enough to know: a reply
 * would notice only when it writes once more. Returns the end of the watch, since connections are
 * used again.
 */
function onClientGone(response: ServerResponse, leave: () => void): () => void {
  const { socket } = response
  response.on('close', leave)
  socket?.once('end', leave)
  if (response.destroyed || socket === null || socket.readableEnded) leave()
  return () => socket?.off('end', leave)
}

/**
 * The body says what to do, the grant what is allowed: they must agree on who and on which adapter.
 */
function withinGrant(generate: GenerateRequest, claims: GrantClaims): GenerateRequest {
  for (const field of ['request_id', 'tenant_id', 'key_id', 'adapter_digest'] as const) {
    if (generate[field] === claims[field]) continue
    throw new HostError('grant_mismatch', `the grant is for another ${field}`, { param: field })
  }
  if (claims.max_tokens === null) return generate
  const tokensMax = Math.min(generate.max_tokens ?? claims.max_tokens, claims.max_tokens)
  if (tokensMax < 1) {
    throw new HostError('grant_mismatch', 'the grant allows no tokens', { param: 'max_tokens' })
  }
  return { ...generate, max_tokens: tokensMax }
}

async function streamEvents(
  { clock, limits }: GenerateDeps,
  { generation, watch }: { readonly generation: Generation; readonly watch: RequestWatch },
  response: ServerResponse,
): Promise<void> {
  const accepted = await generation.next()
  const second = generation.next()
  const early = await withinTime(clock, limits.headerHoldMs, second)
  if (early?.type === 'error' && early.usage?.completion_tokens === 0) throw toRefusal(early)
  const stream = new EventStream(response, clock, limits)
  stream.open()
  if (accepted !== null) {
    watch.saw(accepted)
    await stream.write(accepted)
  }
  for (let event = await second; event !== null; event = await generation.next()) {
    watch.saw(event)
    await stream.write(event)
  }
  stream.close()
}

/** null = nothing came in time; the promise can still be awaited. */
async function withinTime<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | null> {
  let cancel = (): void => {}
  const timeout = new Promise<null>((resolve) => {
    cancel = clock.setTimer(ms, () => resolve(null))
  })
  const first = await Promise.race([promise, timeout])
  cancel()
  return first
}

function toRefusal(event: Extract<GenerateEvent, { type: 'error' }>): HostError {
  const code = isHostErrorCode(event.code) ? event.code : 'internal_error'
  return new HostError(code, event.message, event.param ? { param: event.param } : {})
}

function isHostErrorCode(code: string): code is HostErrorCode {
  return Object.hasOwn(HOST_ERRORS, code)
}
