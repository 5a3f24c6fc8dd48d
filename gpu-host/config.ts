/**
 * Environment → one frozen HostConfig. The only file of the host that reads `process.env`; every
 * bound and timeout has its default here, its unit in its name.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { parseStoreAddress, type StoreAddress } from './adapters/store-address.ts'
import { HostError } from './errors.ts'
import { errorText } from './log.ts'
import { toTracingSettings, tracingEnvironment } from './tracing/tracing-settings.ts'
import { toVllmSettings, vllmEnvironment } from './vllm/vllm-settings.ts'
import { poolSecretEnvironment, toPoolSecrets } from './wire/pool-secrets.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

/** Per choice. Few: whoever never reads is not billed for them, and their engine time is lost. */
const EVENTS_BUFFERED_MAX: number = 4
/**
 * Half of what a request may hold in this process; the rest is for the frame that is on its way.
 */
const EVENT_BYTES_BUFFERED_MAX = 128 * KIB

/** For headers and for a body that is not an upload. */
const BODY_TIMEOUT_MS: number = 15_000

/** What settling one request may take of the journal. */
const SETTLEMENT_BYTES = 4 * KIB

const whole = (fallback: number, min: number, max: number) =>
  z.coerce.number().int().min(min).max(max).default(fallback)

const environment = z.object({
  ...vllmEnvironment,
  ...tracingEnvironment,
  NOZZLE_HOST_PORT: whole(0, 0, 65_535),
  /** Listens beyond loopback only where asked to: the edge may sit on the same machine. */
  NOZZLE_HOST_ADDRESS: z.string().default('127.0.0.1'),
  /** Where the edge reaches this host; by default the address that it listens on. */
  NOZZLE_HOST_URL: z.url().optional(),
  /** Absent = drawn once, and kept in the data directory (host-id.ts). */
  NOZZLE_HOST_ID: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,80}$/)
    .optional(),
  /** What operators call it, beside its id; absent = the machine's name (host-id.ts). */
  NOZZLE_HOST_NAME: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,80}$/)
    .optional(),
  ...poolSecretEnvironment,
  NOZZLE_DATA_DIR: z.string().min(1).default('.nozzle'),
  NOZZLE_BASE_MODEL_PATH: z.string().min(1),
  NOZZLE_BASE_MODEL_NAME: z.string().min(1).max(200),
  /** A file with a Jinja template, in the place of the one in the base model's file. */
  NOZZLE_CHAT_TEMPLATE: z.string().min(1).optional(),
  /**
   * Edges that hear of this host, with commas between them; usage goes to one that answers. Absent
   * = nothing is reported; usage stays in the journal.
   */
  NOZZLE_EDGE_URL: z
    .string()
    .transform((list) => list.split(',').map((url) => url.trim()))
    .pipe(z.array(z.url({ protocol: /^https?$/ })))
    .default([]),
  NOZZLE_DEVICE: z.enum(['auto', 'cpu', 'cuda']).default('auto'),
  /** One per sequence: with fewer, requests of different adapters wait for each other's slots. */
  NOZZLE_SLOTS: whole(16, 1, 1024),
  NOZZLE_RANK_MAX: whole(32, 1, 512),
  NOZZLE_SEQUENCES: whole(16, 1, 4096),
  NOZZLE_CONTEXT_LENGTH: whole(2048, 16, 1_048_576),
  /**
   * Tokens that the KV pool holds, of running sequences and cached prefixes together; 0 = half of
   * all contexts, and one at least.
   */
  NOZZLE_KV_TOKENS: whole(0, 0, 2 ** 31 - 1),
  NOZZLE_ROWS_MAX: whole(256, 1, 65_536),
  /** 0 = the engine chooses. */
  NOZZLE_THREADS: whole(0, 0, 1024),
  NOZZLE_PREFILL_ROWS_MAX: whole(256, 1, 65_536),
  NOZZLE_STEP_TARGET_MS: whole(100, 1, 10_000),
  NOZZLE_QUEUE_DEPTH_MAX: whole(256, 1, 100_000),
  NOZZLE_QUEUE_DEPTH_TENANT_MAX: whole(64, 1, 100_000),
  NOZZLE_QUEUE_WAIT_MAX_MS: whole(60_000, 100, 3_600_000),
  /** Forecast wait up to which requests are let in; 0 = as scheduler/wait-target.ts reckons. */
  NOZZLE_QUEUE_WAIT_TARGET_MS: whole(0, 0, 3_600_000),
  NOZZLE_SLOT_WAIT_MAX_MS: whole(2000, 0, 600_000),
  NOZZLE_CONSUMER_STALL_MAX_MS: whole(30_000, 100, 3_600_000),
  NOZZLE_RAM_TIER_BYTES_MAX: whole(2 * GIB, MIB, Number.MAX_SAFE_INTEGER),
  NOZZLE_DISK_TIER_BYTES_MAX: whole(20 * GIB, MIB, Number.MAX_SAFE_INTEGER),
  NOZZLE_ADAPTER_BYTES_MAX: whole(GIB, KIB, Number.MAX_SAFE_INTEGER),
  NOZZLE_REQUEST_BYTES_MAX: whole(4 * MIB, KIB, GIB),
  NOZZLE_JOURNAL_SEGMENT_BYTES_MAX: whole(16 * MIB, 4 * KIB, GIB),
  NOZZLE_JOURNAL_BYTES_MAX: whole(4 * GIB, MIB, Number.MAX_SAFE_INTEGER),
  /** The log raises an alarm while the journal's disk has less; 0 = never. */
  NOZZLE_JOURNAL_FREE_BYTES_MIN: whole(256 * MIB, 0, Number.MAX_SAFE_INTEGER),
  NOZZLE_JOURNAL_RETENTION_DAYS: whole(35, 0, 3650),
  /** Where packs are kept: a directory, or s3://<bucket>[/<prefix>]; by default in the data. */
  NOZZLE_STORE: z.string().min(1).optional(),
  /** Absent = AWS, in that region. */
  NOZZLE_STORE_ENDPOINT: z.url({ protocol: /^https?$/ }).optional(),
  /** R2 and MinIO take the default for their own. */
  NOZZLE_STORE_REGION: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .default('us-east-1'),
  NOZZLE_STORE_ACCESS_KEY_ID: z.string().min(1).optional(),
  NOZZLE_STORE_SECRET_ACCESS_KEY: z.string().min(1).optional(),
  NOZZLE_STORE_SESSION_TOKEN: z.string().min(1).optional(),
  /** Whether the bucket stands in the path; by default only where an endpoint is given. */
  NOZZLE_STORE_PATH_STYLE: z.enum(['true', 'false']).optional(),
  NOZZLE_DRAIN_GRACE_MS: whole(30_000, 0, 3_600_000),
})

export type HostConfig = ReturnType<typeof toConfig>

/** What alone names the store, for those who need no host. */
const storeEnvironment = environment.pick({
  NOZZLE_DATA_DIR: true,
  NOZZLE_STORE: true,
  NOZZLE_STORE_ENDPOINT: true,
  NOZZLE_STORE_REGION: true,
  NOZZLE_STORE_ACCESS_KEY_ID: true,
  NOZZLE_STORE_SECRET_ACCESS_KEY: true,
  NOZZLE_STORE_SESSION_TOKEN: true,
  NOZZLE_STORE_PATH_STYLE: true,
})

const secretEnvironment = environment.pick({ NOZZLE_POOL_SECRET: true })

type Environment = Record<string, string | undefined>

/** Throws `invalid_request`, naming each variable that is wrong; never prints a value. */
export function readConfig(env: Environment = process.env): HostConfig {
  return toConfig(parseEnvironment(environment, env))
}

/** @param address in the place of NOZZLE_STORE. Throws as readConfig does. */
export function readStoreAddress(address?: string, env: Environment = process.env): StoreAddress {
  const named = address === undefined ? env : { ...env, NOZZLE_STORE: address }
  return toStore(parseEnvironment(storeEnvironment, named))
}

/** Throws as readConfig does. */
export function readPoolSecret(env: Environment = process.env): Uint8Array {
  const { NOZZLE_POOL_SECRET: secret } = parseEnvironment(secretEnvironment, env)
  return new TextEncoder().encode(secret)
}

function parseEnvironment<T extends z.ZodType>(schema: T, env: Environment): z.infer<T> {
  const parsed = schema.safeParse(env)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  throw new HostError('invalid_request', `configuration: ${issues.join('; ')}`)
}

/** Requests rarely fill their context; and pages that nothing was written to take no memory. */
function toKvCells(env: z.infer<typeof environment>): number {
  const { NOZZLE_KV_TOKENS: asked, NOZZLE_CONTEXT_LENGTH: context, NOZZLE_SEQUENCES: count } = env
  if (asked === 0) return Math.max(context, Math.ceil((context * count) / 2))
  if (asked >= context) return asked
  const reason = `NOZZLE_KV_TOKENS: ${asked} cannot hold one context of ${context} tokens; raise it`
  throw new HostError('invalid_request', `configuration: ${reason} or lower NOZZLE_CONTEXT_LENGTH`)
}

function toStore(env: z.infer<typeof storeEnvironment>): StoreAddress {
  try {
    return parseStoreAddress(env, join(env.NOZZLE_DATA_DIR, 'store'))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new HostError('invalid_request', `configuration: ${reason}`)
  }
}

/** So that a start on a full disk can write a segment anew, and settle all that may be open. */
function toReserveBytes(env: z.infer<typeof environment>): number {
  const openMax = env.NOZZLE_QUEUE_DEPTH_MAX + env.NOZZLE_SEQUENCES
  return env.NOZZLE_JOURNAL_SEGMENT_BYTES_MAX + openMax * SETTLEMENT_BYTES
}

function toVllmConfig(env: z.infer<typeof environment>, hostDirectory: string) {
  try {
    return toVllmSettings(env, hostDirectory)
  } catch (error) {
    throw new HostError('invalid_request', `configuration: ${errorText(error)}`)
  }
}

function toConfig(env: z.infer<typeof environment>) {
  const hostDirectory = join(env.NOZZLE_DATA_DIR, 'host')
  return Object.freeze({
    hostId: env.NOZZLE_HOST_ID ?? null,
    hostName: env.NOZZLE_HOST_NAME ?? null,
    hostDirectory,
    address: env.NOZZLE_HOST_ADDRESS,
    port: env.NOZZLE_HOST_PORT,
    url: env.NOZZLE_HOST_URL ?? null,
    edgeUrls: env.NOZZLE_EDGE_URL,
    ...toPoolSecrets(env),
    journalDirectory: join(hostDirectory, 'journal'),
    diskTierDirectory: join(hostDirectory, 'adapters'),
    stagingDirectory: join(hostDirectory, 'staging'),
    store: toStore(env),
    ramTierBytesMax: env.NOZZLE_RAM_TIER_BYTES_MAX,
    diskTierBytesMax: env.NOZZLE_DISK_TIER_BYTES_MAX,
    drainGraceMs: env.NOZZLE_DRAIN_GRACE_MS,
    /** null = no spans. */
    tracing: toTracingSettings(env),
    /** null = the base model's own. */
    chatTemplatePath: env.NOZZLE_CHAT_TEMPLATE ?? null,
    /** null = the native engine. */
    vllm: toVllmConfig(env, hostDirectory),
    engine: Object.freeze({
      modelPath: env.NOZZLE_BASE_MODEL_PATH,
      modelName: env.NOZZLE_BASE_MODEL_NAME,
      device: env.NOZZLE_DEVICE,
      slotCount: env.NOZZLE_SLOTS,
      rankMax: env.NOZZLE_RANK_MAX,
      sequenceCount: env.NOZZLE_SEQUENCES,
      contextLength: env.NOZZLE_CONTEXT_LENGTH,
      kvCells: toKvCells(env),
      rowsMax: env.NOZZLE_ROWS_MAX,
      threads: env.NOZZLE_THREADS,
    }),
    scheduler: Object.freeze({
      queueDepthMax: env.NOZZLE_QUEUE_DEPTH_MAX,
      queueDepthTenantMax: env.NOZZLE_QUEUE_DEPTH_TENANT_MAX,
      queueWaitMaxMs: env.NOZZLE_QUEUE_WAIT_MAX_MS,
      waitTargetMs: env.NOZZLE_QUEUE_WAIT_TARGET_MS || null,
      slotWaitMaxMs: env.NOZZLE_SLOT_WAIT_MAX_MS,
      consumerStallMaxMs: env.NOZZLE_CONSUMER_STALL_MAX_MS,
      eventsBufferedMax: EVENTS_BUFFERED_MAX,
      eventBytesBufferedMax: EVENT_BYTES_BUFFERED_MAX,
      prefillRowsMin: Math.min(16, env.NOZZLE_PREFILL_ROWS_MAX),
      prefillRowsMax: env.NOZZLE_PREFILL_ROWS_MAX,
      stepTargetUs: env.NOZZLE_STEP_TARGET_MS * 1000,
    }),
    journal: Object.freeze({
      segmentBytesMax: env.NOZZLE_JOURNAL_SEGMENT_BYTES_MAX,
      totalBytesMax: env.NOZZLE_JOURNAL_BYTES_MAX,
      retentionMs: env.NOZZLE_JOURNAL_RETENTION_DAYS * 86_400_000,
      fsyncIntervalMs: 100,
      reserveBytes: toReserveBytes(env),
      freeBytesMin: env.NOZZLE_JOURNAL_FREE_BYTES_MIN,
    }),
    server: Object.freeze({
      requestBytesMax: env.NOZZLE_REQUEST_BYTES_MAX,
      adapterConfigBytesMax: 64 * KIB,
      adapterWeightsBytesMax: env.NOZZLE_ADAPTER_BYTES_MAX,
      headerBytesMax: 16 * KIB,
      connectionsMax: 4096,
      uploadsMax: 3,
      bodyTimeoutMs: BODY_TIMEOUT_MS,
      uploadTimeoutMs: 600_000,
      /** Reply headers wait this long for a refusal that could still have its own status. */
      headerHoldMs: 250,
      /** An edge takes twice as long a silence for a reason to ask whether this host lives. */
      keepAliveMs: 500,
      writeTimeoutMs: env.NOZZLE_CONSUMER_STALL_MAX_MS,
      /** Files that arrive more slowly hold a place that others wait for. */
      uploadPace: Object.freeze({ graceMs: BODY_TIMEOUT_MS, bytesPerSecond: 16 * KIB }),
    }),
  })
}

export type ServerLimits = HostConfig['server']
