/**
 * The wire contract between edge and host: the only thing the two share. Parsers take unknown input
 * and return typed values; types are derived from the parsers. Imports zod and a part of its own,
 * uses no runtime global, so it runs in workerd, Node and tests alike.
 *
 * Edge → host: HTTP POST, `authorization: Grant <JWS>`, body covered by the grant's `body_sha256`.
 * Host → edge: HTTP POST, `authorization: Host <JWS>`, same rule.
 */
import { z } from 'zod'
import { chatInput } from './wire/chat-input.ts'

/** Seconds a grant stays valid after it was issued. Short, since a host refuses each one twice. */
export const GRANT_TTL_S = 30
/** Seconds of clock difference between edge and host that a grant survives. */
export const GRANT_SKEW_S = 5
/** The one accepted JWS algorithm, pinned on both sides. */
export const GRANT_ALGORITHM = 'HS256'

/**
 * Edge → host and back: the request that a call is for, and that a reply answers. Every reply to a
 * call whose grant was good bears it.
 */
export const REQUEST_ID_HEADER = 'x-request-id'

export const HOST_ROUTES = {
  generate: '/internal/v1/generate',
  cancel: '/internal/v1/cancel',
  adapters: '/internal/v1/adapters',
  uploadPlan: '/internal/v1/uploads/plan',
  uploadComplete: '/internal/v1/uploads/complete',
  prefetch: '/internal/v1/prefetch',
  residency: '/internal/v1/residency',
  drain: '/internal/v1/drain',
  resume: '/internal/v1/resume',
  health: '/healthz',
  metrics: '/metrics',
} as const

export const EDGE_ROUTES = {
  heartbeat: '/internal/v1/hosts/heartbeat',
  usage: '/internal/v1/usage',
} as const

/** Completions that one request may ask for. */
export const CHOICES_MAX = 16

const tokenCount = z.int().min(0)
const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')

/**
 * `sha256:<64 hex>`: names adapter bytes. The digest of a pack's source files, see
 * gpu-host/adapters.
 */
export const adapterDigest = z
  .string()
  .regex(/^sha256:[0-9a-f]{64}$/, 'must be sha256:<64 lower-case hex digits>')

/** What a grant allows; carried as JWS claims, `aud` names the audience. */
export const grantClaims = z.object({
  aud: z.enum(['host', 'edge']),
  /** Which call it is good for; absent = of an earlier release, whose calls are POST as well. */
  method: z.string().max(16).default('POST'),
  /** One of HOST_ROUTES or EDGE_ROUTES. */
  route: z.string(),
  request_id: z.string().min(1).max(80),
  /** Tenant in whose name the call is made; null for pool business (heartbeat, drain). */
  tenant_id: z.string().max(80).nullable(),
  key_id: z.string().max(80).nullable(),
  adapter_digest: adapterDigest.nullable(),
  max_tokens: z.int().min(0).nullable(),
  /**
   * Lower-case hex SHA-256 of the body; null only for streamed uploads, which carry own digests.
   */
  body_sha256: sha256Hex.nullable(),
  nonce: z.string().min(16).max(64),
  iat: z.int(),
  exp: z.int(),
})
export type GrantClaims = z.infer<typeof grantClaims>

/** How the next token is drawn. Defaults are OpenAI's; temperature 0 is greedy. */
export const samplingOptions = z.object({
  temperature: z.number().min(0).max(2).default(1),
  top_p: z.number().gt(0).max(1).default(1),
  /** 0 = off. */
  top_k: z.int().min(0).max(1000).default(0),
  min_p: z.number().min(0).max(1).default(0),
  frequency_penalty: z.number().min(-2).max(2).default(0),
  presence_penalty: z.number().min(-2).max(2).default(0),
  /** 1 = off. */
  repetition_penalty: z.number().gt(0).max(2).default(1),
  /** null = drawn by the host. */
  seed: z.int().min(0).max(0xffff_ffff).nullable().default(null),
  /** Token id (decimal) → bias added to its logit, −100 … 100. */
  logit_bias: z.record(z.string().regex(/^\d+$/), z.number().min(-100).max(100)).default({}),
  /** GBNF grammar that constrains the output; null = none. */
  grammar: z.string().max(262_144).nullable().default(null),
})
export type SamplingOptions = z.infer<typeof samplingOptions>

/**
 * 1, 2, 3 …: which try at the request this is. Of the tries that a request has usage events for,
 * the highest alone is charged: it is the one whose answer the client got.
 */
const attemptNumber = z.int().min(1).max(1000).default(1)

/** Spend leases that the request was admitted under; its charge is posted against them. */
const leaseIds = z.array(z.string().min(1).max(80)).max(4).default([])

/** Edge → host, body of `generate`. */
export const generateRequest = z.object({
  request_id: z.string().min(1).max(80),
  attempt: attemptNumber,
  tenant_id: z.string().min(1).max(80),
  key_id: z.string().min(1).max(80).nullable(),
  /** Name shown in usage, `<model>` or `<model>@<version>`; identity is the digest. */
  model: z.string().min(1).max(200),
  model_id: z.string().max(80).nullable(),
  adapter_version_id: z.string().max(80).nullable(),
  /** null = base model alone. */
  adapter_digest: adapterDigest.nullable(),
  base_model: z.string().min(1).max(200),
  price_version_id: z.string().max(80).nullable(),
  lease_ids: leaseIds,
  input: z.discriminatedUnion('kind', [
    chatInput,
    z.object({ kind: z.literal('text'), prompt: z.string() }),
    z.object({ kind: z.literal('tokens'), tokens: z.array(z.int().min(0)).min(1) }),
  ]),
  sampling: samplingOptions,
  /** Choices: independent completions of the one prompt, billed as one request. */
  n: z.int().min(1).max(CHOICES_MAX).default(1),
  /** Of each choice; null = until the context is full. */
  max_tokens: z.int().min(1).nullable(),
  stop: z.array(z.string().min(1).max(256)).max(16).default([]),
  /**
   * Milliseconds from now within which the first token must come, or the request is of no use any
   * more; null = as long as the host lets requests wait.
   */
  deadline_ms: z.int().min(1).max(3_600_000).nullable().default(null),
  /** The tenant's share of a host that has more to do than it can, as a multiple of others'. */
  tenant_weight: z.int().min(1).max(1000).default(1),
  /** The client gets the reply in one piece: of one that breaks off it gets nothing. */
  is_whole: z.boolean().default(false),
  /** Ignore the end-of-generation token (benchmarks). */
  ignore_eos: z.boolean().default(false),
  /** Whether chunks carry the log probability of their token. */
  logprobs: z.boolean().default(false),
  /** Likeliest tokens told with each; counts only with `logprobs`. */
  top_logprobs: z.int().min(0).max(20).default(0),
})
export type GenerateRequest = z.infer<typeof generateRequest>

/** What a usage event says that is known on admission; `parse` takes it out of a request. */
export const requestFacts = generateRequest.pick({
  request_id: true,
  attempt: true,
  tenant_id: true,
  key_id: true,
  model: true,
  model_id: true,
  adapter_version_id: true,
  adapter_digest: true,
  base_model: true,
  price_version_id: true,
  lease_ids: true,
})
export type RequestFacts = z.infer<typeof requestFacts>

export const finishReason = z.enum(['stop', 'length', 'abort', 'error'])
export type FinishReason = z.infer<typeof finishReason>

/** Tokens as the engine counted them. cached ⊂ prompt; completion: of all choices together. */
export const usage = z.object({
  prompt_tokens: tokenCount,
  cached_prompt_tokens: tokenCount,
  completion_tokens: tokenCount,
})
export type Usage = z.infer<typeof usage>

export const tokenLogprob = z.object({
  token: z.string(),
  bytes: z.array(z.int().min(0).max(255)),
  logprob: z.number(),
})
export const tokenLogprobs = tokenLogprob.extend({ top: z.array(tokenLogprob) })
export type TokenLogprobs = z.infer<typeof tokenLogprobs>

/** How the request's adapter was found: in a slot, or loaded from RAM, disk or store. */
export const adapterSource = z.enum(['none', 'slot', 'ram', 'disk', 'store'])
export type AdapterSource = z.infer<typeof adapterSource>

/** Host → edge, one `data:` frame each, on the stream that answers `generate`. */
export const generateEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('accepted'),
    request_id: z.string(),
    host_id: z.string(),
    prompt_tokens: tokenCount,
  }),
  z.object({
    type: z.literal('chunk'),
    /** 0 … n − 1. */
    choice: z.int().min(0),
    /** Whole UTF-8 characters; empty only where the choice ends without more. */
    text: z.string(),
    /** Tokens that this chunk stands for: its own, and those before it that showed nothing. */
    tokens: tokenCount,
    logprobs: z.array(tokenLogprobs).optional(),
    /** Set on the last chunk of the choice. */
    finish_reason: z.enum(['stop', 'length']).nullable(),
  }),
  z.object({
    type: z.literal('end'),
    /** `length` when that ended any of the choices. */
    finish_reason: finishReason,
    usage,
    adapter_source: adapterSource,
    ttft_us: z.int().min(0),
    gpu_us: z.int().min(0),
    /** Accepted → first row; 0 = a host of an earlier release. */
    queue_us: z.int().min(0).default(0),
    /** Of loads into slots that the request carries. */
    swap_us: z.int().min(0).default(0),
  }),
  z.object({
    type: z.literal('error'),
    code: z.string(),
    message: z.string(),
    /** Field at fault. */
    param: z.string().nullable().optional(),
    usage: usage.nullable(),
  }),
])
export type GenerateEvent = z.infer<typeof generateEvent>
export type ChunkEvent = Extract<GenerateEvent, { type: 'chunk' }>
export type EndEvent = Extract<GenerateEvent, { type: 'end' }>

/**
 * Edge → host, body of `cancel`: the client is gone, and this is how much of the answer was passed
 * on to it. No attempt follows, so `attempt + 1` is the host's, for a request that it has settled
 * at more.
 */
export const cancelRequest = z.object({
  request_id: z.string().min(1).max(80),
  attempt: attemptNumber,
  /** Of all choices together. */
  delivered_tokens: tokenCount,
})
export type CancelRequest = z.infer<typeof cancelRequest>

/** `ending`: runs, and ends now. `corrected`: had been settled at more. `settled`: nothing to do. */
export const cancelReceipt = z.object({ outcome: z.enum(['ending', 'corrected', 'settled']) })
export type CancelReceipt = z.infer<typeof cancelReceipt>

/** Body of a host's non-2xx reply. `code` is stable; see gpu-host/errors.ts for the table. */
export const hostErrorBody = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    /** Field or file at fault. */
    param: z.string().nullable(),
    retry_after_ms: z.int().min(0).nullable(),
  }),
})
export type HostErrorBody = z.infer<typeof hostErrorBody>

/** What a host answers when it has checked, converted and stored an uploaded adapter. */
export const adapterReceipt = z.object({
  digest: adapterDigest,
  base_model: z.string(),
  base_digest: z.string(),
  rank: z.int().min(1),
  alpha: z.number(),
  use_rslora: z.boolean(),
  target_modules: z.array(z.string()),
  tensors: z.int().min(1),
  pack_bytes: z.int().min(1),
  /** True when these very bytes were stored before. */
  existed: z.boolean(),
})
export type AdapterReceipt = z.infer<typeof adapterReceipt>

/** What goes straight to the pool's store goes in parts of so many bytes; the last may be less. */
export const UPLOAD_PART_BYTES: number = 8 * 1024 * 1024

const uploadFile = z
  .object({
    bytes: z.int().min(1),
    sha256: sha256Hex,
    /** Of each part, in order. */
    part_sha256: z.array(sha256Hex).min(1).max(2048),
  })
  .refine(
    ({ bytes, part_sha256: parts }) => parts.length === Math.ceil(bytes / UPLOAD_PART_BYTES),
    {
      path: ['part_sha256'],
      message: `must name each part of ${UPLOAD_PART_BYTES} bytes`,
    },
  )
export type UploadFile = z.infer<typeof uploadFile>

/** The two files of a PEFT adapter, before they are sent. */
export const uploadFiles = z.object({ config: uploadFile, weights: uploadFile })
export type UploadFiles = z.infer<typeof uploadFiles>

/** Edge → host, body of `uploadPlan` and `uploadComplete`. */
export const uploadRequest = z.object({ files: uploadFiles })

/** Where the files go: `through_edge` = this pool's store takes none directly. */
export const uploadPlan = z.discriminatedUnion('mode', [
  z.object({ mode: z.literal('through_edge') }),
  z.object({
    mode: z.literal('direct'),
    /** What the adapter will be called. */
    digest: adapterDigest,
    /** Bytes that are there already. */
    bytes_staged: z.int().min(0),
    /** From then on the store refuses the URLs. */
    expires_at: z.iso.datetime(),
    /** To PUT, each with exactly these headers; what is there already is left out. */
    parts: z.array(
      z.object({
        file: z.enum(['config', 'weights']),
        /** Bytes from index × UPLOAD_PART_BYTES on. */
        index: z.int().min(0),
        url: z.url(),
        headers: z.record(z.string(), z.string()),
      }),
    ),
  }),
])
export type UploadPlan = z.infer<typeof uploadPlan>

export const residencyState = z.enum([
  'absent',
  'fetching',
  'on_disk',
  'loading',
  'resident',
  'evicting',
  'failed',
])
export type ResidencyState = z.infer<typeof residencyState>

export const engineKind = z.enum(['native', 'vllm'])

/** Host → edge once a second. */
export const heartbeat = z.object({
  host_id: z.string().min(1).max(80),
  /** What operators call it; need not be its alone. Empty = a host of an earlier release. */
  host_name: z.string().max(80).default(''),
  /** Grows at each start of the host process; an older epoch is refused. */
  epoch: z.int().min(0),
  /** Counts the heartbeats of an epoch: of two the higher is newer, whichever arrived first. */
  beat: z.int().min(0).default(0),
  /** Milliseconds since this start of the host began to take requests. */
  uptime_ms: z.int().min(0).default(0),
  /**
   * Milliseconds since some edge last said that the database has a heartbeat of this host; null =
   * none ever did. An edge that cannot reach the database learns from it whether others can.
   */
  stored_ago_ms: z.int().min(0).nullable().default(null),
  engine: engineKind.default('native'),
  url: z.string().max(400),
  version: z.string(),
  base_model: z.string(),
  base_digest: z.string(),
  status: z.enum(['ready', 'draining']),
  load: z.object({
    sequences_running: z.int().min(0),
    sequences_max: z.int().min(1),
    queue_depth: z.int().min(0),
    queue_depth_max: z.int().min(1),
    slots: z.int().min(1),
    slots_in_use: z.int().min(0),
    /** Tokens that the KV pool holds; free ones include those of prefixes that nobody uses now. */
    kv_tokens_max: z.int().min(0).default(0),
    kv_tokens_free: z.int().min(0).default(0),
    /** How long a request that came now would wait for its turn, as the host reckons. */
    wait_ms: z.int().min(0).default(0),
  }),
  context_length: z.int().min(1),
  adapters: z
    .array(
      z.object({
        digest: adapterDigest,
        tier: z.enum(['slot', 'ram', 'disk']),
        /** Sequences with it that run or wait on this host. */
        sequences: z.int().min(0).default(0),
      }),
    )
    .max(100_000),
})
export type Heartbeat = z.infer<typeof heartbeat>

/** What the pool's operator wants of a host: that it serves, or that it takes nothing new. */
export const hostWish = z.enum(['serve', 'drain'])
export type HostWish = z.infer<typeof hostWish>

/** Answers a heartbeat. */
export const heartbeatReceipt = z.object({
  /** The database has it; else this edge alone has heard of it. */
  stored: z.boolean(),
  /** null = the edge does not know at the moment. */
  wish: hostWish.nullable().default(null),
})
export type HeartbeatReceipt = z.infer<typeof heartbeatReceipt>

/** One settled request: the immutable fact that is billed. Written by the host's journal. */
export const usageEvent = z.object({
  request_id: z.string().min(1).max(80),
  attempt: attemptNumber,
  tenant_id: z.string().min(1).max(80),
  key_id: z.string().max(80).nullable(),
  model: z.string(),
  model_id: z.string().max(80).nullable(),
  adapter_version_id: z.string().max(80).nullable(),
  adapter_digest: adapterDigest.nullable(),
  base_model: z.string(),
  price_version_id: z.string().max(80).nullable(),
  lease_ids: leaseIds,
  host_id: z.string(),
  epoch: z.int().min(0),
  prompt_tokens: tokenCount,
  cached_prompt_tokens: tokenCount,
  completion_tokens: tokenCount,
  finish_reason: finishReason,
  /** Microseconds of engine time, a step's time shared out to its rows. */
  gpu_us: z.int().min(0),
  queue_us: z.int().min(0),
  /** null = no token was made. */
  ttft_us: z.int().min(0).nullable(),
  /** Microseconds of the load of its adapter into a slot; one request a load carries them. */
  swap_us: z.int().min(0),
  /** Size of the adapter's pack, which the pool stores; 0 = the base model alone, or not known. */
  adapter_bytes: z.int().min(0).default(0),
  adapter_source: adapterSource,
  /** Host clock, UTC, ISO 8601 with Z. */
  started_at: z.iso.datetime(),
  ended_at: z.iso.datetime(),
  /**
   * `engine` = settled by the host; `recovered` = closed at the last progress after a crash; `edge`
   * = void: all counts are zero, since no attempt reached the client.
   */
  source: z.enum(['engine', 'recovered', 'edge']),
})
export type UsageEvent = z.infer<typeof usageEvent>

/** Host → edge; acknowledged only as a whole: 200 means every event is in the database. */
export const usageBatch = z.object({
  host_id: z.string(),
  events: z.array(usageEvent).min(1).max(1000),
})
export type UsageBatch = z.infer<typeof usageBatch>
export const usageBatchReceipt = z.object({ inserted: z.int().min(0), known: z.int().min(0) })

export const prefetchRequest = z.object({ adapter_digest: adapterDigest })
