/**
 * A host that computes nothing, as a process of its own: whatever is asked, it answers with the
 * same few tokens, at once. Towards edges it is a host in all that they see: checked grants,
 * heartbeats, and a usage event for every answer, shipped until it is acknowledged. Gateways that
 * speak OpenAI's API alone, and the client itself, ask it for the same tokens in that form.
 *
 * Its one argument is StubOptions in JSON. Over IPC it says `ready`, and tells its books.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../gpu-host/clock.ts'
import {
  type AdapterReceipt,
  EDGE_ROUTES,
  type GenerateEvent,
  grantClaims,
  type Heartbeat,
  HOST_ROUTES,
  REQUEST_ID_HEADER,
  requestFacts,
  type UploadPlan,
  type UsageEvent,
} from '../../gpu-host/protocol.ts'
import { EdgeClient, EdgeFailover } from '../../gpu-host/telemetry/edge-client.ts'
import { createUsageEvent } from '../../gpu-host/telemetry/usage-event.ts'
import { ANSWER, CHAT_PATH, PROMPT_TOKENS, stubMessage, stubOptions } from './stub-protocol.ts'

const HEARTBEAT_MS = 1000
/** As a host's outbox looks into its journal. */
const SHIP_MS = 200
const EVENTS_PER_BATCH_MAX = 500
const CALL_TIMEOUT_MS = 10_000

const options = stubOptions.parse(JSON.parse(process.argv[2] ?? ''))
const { hostId, baseModel, adapterDigest: digest } = options
const secret = new TextEncoder().encode(options.poolSecret)
const epoch = Date.now()
const edges = options.edgeUrls.map(
  (edgeUrl) => new EdgeClient({ edgeUrl, poolSecret: secret, clock: systemClock, fetch }),
)
const journal = new EdgeFailover(edges)
/** Settled, and not acknowledged. */
const owed: UsageEvent[] = []
let settled = 0
let beats = 0

const usage = {
  prompt_tokens: PROMPT_TOKENS,
  cached_prompt_tokens: 0,
  completion_tokens: ANSWER.length,
}
const frameOf = (event: object): string => `data: ${JSON.stringify(event)}\n\n`

/** All that follows `accepted`. */
const GENERATED = [
  ...ANSWER.map((text, i): GenerateEvent => {
    const isLast = i === ANSWER.length - 1
    return { type: 'chunk', choice: 0, text, tokens: 1, finish_reason: isLast ? 'length' : null }
  }),
  {
    ...{ type: 'end', finish_reason: 'length', usage, adapter_source: 'slot' },
    ...{ ttft_us: 0, gpu_us: 0, queue_us: 0, swap_us: 0 },
  } satisfies GenerateEvent,
]
  .map(frameOf)
  .join('')

const completion = { id: 'chatcmpl-stub', created: 0, model: 'stub' }
const choice = { index: 0, logprobs: null, finish_reason: null }
const total = {
  ...{ prompt_tokens: PROMPT_TOKENS, completion_tokens: ANSWER.length },
  total_tokens: PROMPT_TOKENS + ANSWER.length,
}
const WHOLE = JSON.stringify({
  ...completion,
  object: 'chat.completion',
  choices: [
    {
      ...choice,
      finish_reason: 'length',
      message: { role: 'assistant', content: ANSWER.join(''), refusal: null },
    },
  ],
  usage: total,
})
const STREAMED = `${[
  { choices: [{ ...choice, delta: { role: 'assistant', content: '' } }] },
  ...ANSWER.map((content) => ({ choices: [{ ...choice, delta: { content } }] })),
  { choices: [{ ...choice, delta: {}, finish_reason: 'length' }] },
  { choices: [], usage: total },
]
  .map((chunk) => frameOf({ ...completion, object: 'chat.completion.chunk', ...chunk }))
  .join('')}data: [DONE]\n\n`

const receipt: AdapterReceipt = {
  ...{ digest, base_model: baseModel, base_digest: digest, rank: 16, alpha: 16 },
  ...{ use_rslora: false, target_modules: ['attn_q'], tensors: 2, pack_bytes: 1, existed: false },
}

function answer(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  const reply = (type: string, text: string): void => {
    response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(text) })
    response.end(text)
  }
  switch (request.url) {
    case HOST_ROUTES.generate: {
      const claims = checkGrant(request.headers.authorization, body)
      const accepted = { request_id: claims.request_id, host_id: hostId }
      const start = { type: 'accepted', ...accepted, prompt_tokens: PROMPT_TOKENS } as const
      settle(body)
      response.setHeader(REQUEST_ID_HEADER, claims.request_id)
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
      response.end(frameOf(start satisfies GenerateEvent) + GENERATED)
      return
    }
    case CHAT_PATH: {
      const { stream } = stubMessage.chat.parse(JSON.parse(body.toString()))
      if (stream) reply('text/event-stream', STREAMED)
      else reply('application/json', WHOLE)
      return
    }
    case HOST_ROUTES.adapters:
      reply('application/json', JSON.stringify(receipt))
      return
    case HOST_ROUTES.uploadPlan:
      reply('application/json', JSON.stringify({ mode: 'through_edge' } satisfies UploadPlan))
      return
    case HOST_ROUTES.health:
      reply('text/plain', 'ok')
      return
    default:
      response.writeHead(404).end()
  }
}

/** Throws unless the grant is signed by this pool, in force, and for this call. */
function checkGrant(authorization: string | undefined, body: Buffer) {
  const [, head = '', payload = '', signature = ''] =
    /^Grant ([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(authorization ?? '') ?? []
  const due = createHmac('sha256', secret).update(`${head}.${payload}`).digest()
  const given = Buffer.from(signature, 'base64url')
  if (given.length !== due.length || !timingSafeEqual(given, due)) throw new Error('not signed')
  const claims = grantClaims.parse(JSON.parse(Buffer.from(payload, 'base64url').toString()))
  const isForThis =
    claims.route === HOST_ROUTES.generate &&
    claims.exp * 1000 > Date.now() &&
    claims.body_sha256 === createHash('sha256').update(body).digest('hex')
  if (!isForThis) throw new Error('a grant for another call')
  return claims
}

function settle(body: Buffer): void {
  const now = new Date().toISOString()
  const event = createUsageEvent({
    request: requestFacts.parse(JSON.parse(body.toString())),
    ...{ hostId, epoch, finish: 'length', source: 'slot', origin: 'engine' },
    totals: {
      ...{ promptRows: PROMPT_TOKENS, cachedPromptTokens: 0 },
      ...{ completionTokens: ANSWER.length, gpuUs: 0 },
    },
    ...{ queueUs: 0, ttftUs: 0, swapUs: 0, adapterBytes: 1, startedAt: now, endedAt: now },
  })
  if (event === null) return
  owed.push(event)
  settled += 1
}

async function ship(): Promise<void> {
  for (;;) {
    const events = owed.slice(0, EVENTS_PER_BATCH_MAX)
    if (events.length === 0) {
      await sleep(SHIP_MS)
      continue
    }
    try {
      const batch = { host_id: hostId, events }
      await journal.post(EDGE_ROUTES.usage, `shp_${settled}`, batch, CALL_TIMEOUT_MS)
      owed.splice(0, events.length)
    } catch (error) {
      process.stderr.write(`stub host: usage not shipped: ${error}\n`)
      await sleep(SHIP_MS)
    }
  }
}

function statusOf(url: string): Heartbeat {
  return {
    ...{ host_id: hostId, host_name: 'stub', epoch, beat: beats++, uptime_ms: Date.now() - epoch },
    stored_ago_ms: null,
    ...{ engine: 'native', url, version: 'bench', base_model: baseModel, base_digest: digest },
    status: 'ready',
    load: {
      ...{ sequences_running: 0, sequences_max: 1000, queue_depth: 0, queue_depth_max: 1000 },
      ...{ slots: 16, slots_in_use: 1, kv_tokens_max: 1e6, kv_tokens_free: 1e6, wait_ms: 0 },
    },
    context_length: 8192,
    adapters: [{ digest, tier: 'slot', sequences: 0 }],
  }
}

async function beat(url: string): Promise<void> {
  for (;;) {
    for (const edge of edges) {
      edge
        .post(EDGE_ROUTES.heartbeat, `hbt_${beats}`, statusOf(url), CALL_TIMEOUT_MS)
        .catch((error: unknown) => process.stderr.write(`stub host: heartbeat: ${error}\n`))
    }
    await sleep(HEARTBEAT_MS)
  }
}

const server = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
  const pieces: Buffer[] = []
  request.on('data', (piece: Buffer) => pieces.push(piece))
  request.on('end', () => {
    try {
      answer(request, response, Buffer.concat(pieces))
    } catch (error) {
      process.stderr.write(`stub host: ${error}\n`)
      const refusal = { code: 'invalid_request', message: String(error) }
      response.writeHead(400, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ error: { ...refusal, param: null, retry_after_ms: null } }))
    }
  })
})
server.listen(options.port, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${options.port}`
  process.send?.({ type: 'ready', url })
  void beat(url)
  void ship()
})
process.on('message', () => {
  process.send?.({ type: 'books', settled, unshipped: owed.length })
})
for (const reason of ['disconnect', 'SIGTERM'] as const) process.on(reason, () => process.exit(0))
