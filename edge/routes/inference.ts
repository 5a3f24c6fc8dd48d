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
import { KeyWatch } from '../auth/key-watch.ts'
import type { Deps } from '../deps.ts'
import { errorText } from '../errors.ts'
import { FollowedClient } from '../followed-client.ts'
import { HEADER_HOLD_MS } from '../limits.ts'
import type { Call } from '../openai/call-fields.ts'
import { createChatReply } from '../openai/chat-reply.ts'
import { parseChatRequest } from '../openai/chat-request.ts'
import { createCompletionReply } from '../openai/completion-reply.ts'
import { parseCompletionRequest } from '../openai/completion-request.ts'
import { createEventStream, type HostEvents, toLiveEvent } from '../openai/event-stream.ts'
import type { ReplyFormat, ReplyHead } from '../openai/reply.ts'
import { type EdgeContext, identify } from '../request-context.ts'
import { readCall } from './read-call.ts'

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

export function infer(deps: Deps, kind: CompletionKind): (c: EdgeContext) => Promise<Response> {
  return async function handleInference(c) {
    const startMs = deps.monotonicMs()
    const deadlineMs = readDeadline((name) => c.req.header(name))
    const identity = await identify(deps, c)
    requireScope(identity, 'generate')
    const client = new FollowedClient(c.req.raw.signal)
    const watch = new KeyWatch(() => deps.authenticator.stillHolds(identity), client.dismiss)
    const end = (): void => {
      client.end()
      watch.end()
    }
    const due: Due = { identity, startMs, deadlineMs, client, end }
    const reply = await answer(deps, kind, c, due).catch((error: unknown) => {
      end()
      throw error
    })
    // A stream goes on, and lets go of its client when it ends.
    if (reply.headers.get('content-type') !== EVENT_STREAM) end()
    return reply
  }
}

/** What is known of a request before its body is. */
interface Due {
  readonly identity: Identity
  readonly startMs: number
  readonly deadlineMs: number | null
  readonly client: FollowedClient
  /** Lets go of client and key. */
  readonly end: () => void
}

async function answer(
  deps: Deps,
  kind: CompletionKind,
  c: EdgeContext,
  due: Due,
): Promise<Response> {
  const { identity, startMs, deadlineMs, client } = due
  const { call, target, body } = await readCall(deps, c, kind.parse, identity, client.signal)
  const { isStream, generate } = call
  const opened = await openRequest(deps, c, {
    identity,
    target,
    request: generate,
    body,
    isStream,
    signal: client.signal,
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
    withTier: call.withTier,
    callable: call.callable,
  })
  const events = opened.watch(
    deps.hosts.generate(request, {
      signal: client.signal,
      span: c.get('span'),
      arrivedMs: startMs,
      isWhole: !isStream,
      deliveredTokens: opened.deliveredTokens,
      keepAlive: c.get('keepAlive'),
    }),
  )
  if (!isStream) return opened.reply(c, await collect(events, format))
  return stream(deps, c, { events, format, call, client, opened, end: due.end })
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
    readonly client: FollowedClient
    readonly opened: OpenRequest
    readonly end: () => void
  },
): Promise<Response> {
  const { events, format, call, client, opened, end } = reply
  const first = events.next()
  await withinTime(first, HEADER_HOLD_MS)
  deps.metrics.streamsOpen += 1
  const requestId = c.get('requestId')
  const { traceId } = c.get('span').context
  const body = createEventStream({
    format,
    events,
    first,
    withUsage: call.withUsage,
    abort: client.abort,
    onDelivered: opened.onDelivered,
    onEnd: (error) => {
      end()
      deps.metrics.streamsOpen -= 1
      if (error === null) return
      deps.metrics.streamsBroken.add({ code: error.code })
      const level = error.code === 'request_aborted' ? 'info' : 'error'
      const { code } = error
      const ids = { request_id: requestId, trace_id: traceId }
      const fields = { ...ids, code, reason: errorText(error) }
      deps.log(level, 'stream ended early', fields)
    },
  })
  return c.body(opened.record(body, EVENT_STREAM), 200, {
    'content-type': EVENT_STREAM,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
}
