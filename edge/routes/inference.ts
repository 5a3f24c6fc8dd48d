/**
 * POST …/chat/completions and …/completions, on a model's own endpoint and on the shared one: who
 * calls, which model, what is asked → one host's events → one reply. Usage is not written here: the
 * host's journal is its only author.
 */
import { withinTime } from '#db/within-time.ts'
import type { ChunkEvent, GenerateRequest } from '#protocol'
import { readDeadline, remainingDeadline } from '../admission/deadline.ts'
import { type OpenRequest, openRequest } from '../admission/open-request.ts'
import { type Identity, requireScope } from '../auth/authenticate.ts'
import { type ModelTarget, modelNotFound } from '../catalog/catalog.ts'
import { parseModelReference } from '../catalog/model-reference.ts'
import type { Deps } from '../deps.ts'
import { EdgeError, errorText } from '../errors.ts'
import { HEADER_HOLD_MS, REQUEST_BYTES_MAX } from '../limits.ts'
import type { Call } from '../openai/call-fields.ts'
import { createChatReply } from '../openai/chat-reply.ts'
import { parseChatRequest } from '../openai/chat-request.ts'
import { createCompletionReply } from '../openai/completion-reply.ts'
import { parseCompletionRequest } from '../openai/completion-request.ts'
import { createEventStream, type HostEvents, toLiveEvent } from '../openai/event-stream.ts'
import type { ReplyFormat, ReplyHead } from '../openai/reply.ts'
import { parseJson, readBytes } from '../read-body.ts'
import { type EdgeContext, identify, keepAliveOf } from '../request-context.ts'

const EVENT_STREAM = 'text/event-stream; charset=utf-8'

interface CompletionKind {
  readonly parse: (body: unknown) => Call
  readonly createReply: (head: ReplyHead) => ReplyFormat
}

export const CHAT: CompletionKind = { parse: parseChatRequest, createReply: createChatReply }
export const TEXT: CompletionKind = {
  parse: parseCompletionRequest,
  createReply: createCompletionReply,
}

/** Where a model's own endpoint points; null = the shared one. */
interface ModelEndpoint {
  readonly tenantName: string
  readonly modelName: string
}

export function infer(deps: Deps, kind: CompletionKind): (c: EdgeContext) => Promise<Response> {
  return async function handleInference(c) {
    const startMs = deps.monotonicMs()
    const deadlineMs = readDeadline((name) => c.req.header(name))
    const identity = await identify(deps, c)
    requireScope(identity, 'generate')
    const work = new AbortController()
    const client = c.req.raw.signal
    if (client.aborted) work.abort()
    else client.addEventListener('abort', () => work.abort(), { once: true })
    const { call, target, body } = await readCall(deps, c, kind, identity, work.signal)
    const { isStream, generate } = call
    const opened = await openRequest(deps, c, {
      identity,
      target,
      request: generate,
      body,
      isStream,
      signal: work.signal,
    })
    if (opened instanceof Response) return opened
    const request: GenerateRequest = {
      ...opened.fields,
      tenant_id: target.tenantId,
      key_id: identity.kind === 'tenant' ? identity.keyId : null,
      model: target.usageName,
      model_id: target.adapter?.modelId ?? null,
      adapter_version_id: target.adapter?.versionId ?? null,
      adapter_digest: target.adapter?.digest ?? null,
      base_model: target.baseModel,
      deadline_ms: remainingDeadline(deadlineMs, deps.monotonicMs() - startMs),
      tenant_weight: target.tenantWeight,
      is_whole: !isStream,
      ...generate,
    }
    const format = kind.createReply({
      id: request.request_id.slice('req_'.length),
      created: Math.floor(deps.nowMs() / 1000),
      model: call.model ?? target.usageName,
      choices: generate.n,
    })
    const events = opened.watch(
      deps.hosts.generate(request, {
        signal: work.signal,
        isWhole: !isStream,
        deliveredTokens: opened.deliveredTokens,
        keepAlive: keepAliveOf(c),
      }),
    )
    if (!isStream) return opened.reply(c, await collect(events, format))
    return stream(deps, c, { events, format, call, work, opened })
  }
}

/**
 * On a model's own endpoint the model is known before the body is: a cold adapter starts on its way
 * to a host's memory while the body is read.
 */
async function readCall(
  deps: Deps,
  c: EdgeContext,
  kind: CompletionKind,
  identity: Identity,
  signal: AbortSignal,
): Promise<{ call: Call; target: ModelTarget; body: Uint8Array }> {
  const read = async (): Promise<{ call: Call; body: Uint8Array }> => {
    const body = await readBytes(c.req.raw, REQUEST_BYTES_MAX)
    return { call: kind.parse(parseJson(body)), body }
  }
  // A client's retries under one key meet one version; without a name each request is drawn alone.
  const fallback = c.req.header('idempotency-key') ?? c.get('requestId')
  const endpoint = endpointOf(c)
  if (endpoint === null) {
    const { call, body } = await read()
    if (call.model !== null) {
      const affinity = call.affinity ?? fallback
      return { call, body, target: await deps.catalog.resolveName(identity, call.model, affinity) }
    }
    throw new EdgeError('invalid_request', 'you must provide a model parameter', { param: 'model' })
  }
  const reference = { ...endpoint, version: null }
  const deployed = await deps.catalog.resolve(identity, reference, fallback)
  if (deployed.adapter !== null) {
    const { digest } = deployed.adapter
    const wish = { baseModel: deployed.baseModel, digest, tenantId: deployed.tenantId }
    void deps.hosts.prefetch(wish, c.get('requestId'), signal)
  }
  const { call, body } = await read()
  const version = versionOf(call, endpoint)
  if (version === null && call.affinity === null) return { call, body, target: deployed }
  const chosen = { ...endpoint, version }
  const target = await deps.catalog.resolve(identity, chosen, call.affinity ?? fallback)
  return { call, body, target }
}

function endpointOf(c: EdgeContext): ModelEndpoint | null {
  const tenantName = c.req.param('tenant')
  const modelName = c.req.param('model')
  return tenantName === undefined || modelName === undefined ? null : { tenantName, modelName }
}

/**
 * The version that the body pins; null = the deployed one. Another model's name is not found here.
 */
function versionOf({ model }: Call, endpoint: ModelEndpoint): number | null {
  if (model === null) return null
  const reference = parseModelReference(model)
  const isThisModel =
    reference !== null &&
    reference.modelName === endpoint.modelName &&
    (reference.tenantName ?? endpoint.tenantName) === endpoint.tenantName
  if (!isThisModel) throw modelNotFound(model)
  return reference.version
}

async function collect(events: HostEvents, format: ReplyFormat): Promise<object> {
  const chunks: ChunkEvent[] = []
  for (;;) {
    const event = toLiveEvent(await events.next())
    if (event.type === 'chunk') {
      chunks.push(event)
      continue
    }
    // Reads the host's stream out, so that its connection can be used again.
    await events.next().catch(() => {})
    return format.whole(chunks, event)
  }
}

async function stream(
  deps: Deps,
  c: EdgeContext,
  reply: {
    readonly events: HostEvents
    readonly format: ReplyFormat
    readonly call: Call
    readonly work: AbortController
    readonly opened: OpenRequest
  },
): Promise<Response> {
  const { events, format, call, work, opened } = reply
  const first = events.next()
  await withinTime(first, HEADER_HOLD_MS)
  deps.metrics.streamsOpen += 1
  const requestId = c.get('requestId')
  const body = createEventStream({
    format,
    events,
    first,
    withUsage: call.withUsage,
    abort: () => work.abort(),
    onDelivered: opened.onDelivered,
    onEnd: (error) => {
      deps.metrics.streamsOpen -= 1
      if (error === null) return
      const level = error.code === 'request_aborted' ? 'info' : 'error'
      const fields = { request_id: requestId, code: error.code, reason: errorText(error) }
      deps.log(level, 'stream ended early', fields)
    },
  })
  return c.body(opened.record(body, EVENT_STREAM), 200, {
    'content-type': EVENT_STREAM,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
}
