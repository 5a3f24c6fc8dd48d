/**
 * Environment or Worker bindings → one frozen EdgeConfig. The entries hand their environment in; no
 * other file sees it. Names what is wrong, never prints a value.
 */
import { z } from 'zod'
import { toTracingSettings, tracingEnvironment } from '#tracing/tracing-settings.ts'
import { poolSecretEnvironment, toPoolSecrets } from '#wire/pool-secrets.ts'
import { parseApiKey } from './auth/api-key.ts'
import { LOG_LEVELS } from './log.ts'

const environment = z.object({
  ...tracingEnvironment,
  NOZZLE_PORT: z.coerce.number().int().min(0).max(65_535).default(8787),
  NOZZLE_ADDRESS: z.string().min(1).default('127.0.0.1'),
  /** `debug`: also what hosts and probes ask each second. */
  NOZZLE_LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  /** Where clients reach this edge; absent = as the request was addressed. */
  NOZZLE_PUBLIC_URL: z.url().optional(),
  ...poolSecretEnvironment,
  NOZZLE_KEY_PEPPER: z.string().min(32, 'must be at least 32 characters'),
  NOZZLE_DATABASE_URL: z.string().min(1),
  NOZZLE_OPERATOR_KEY: z
    .string()
    .refine((key) => parseApiKey(key) !== null, 'must be a whole API key'),
  NOZZLE_BASE_MODEL_NAME: z.string().min(1).max(200),
  /** Who provides the service: on invoices and exports. */
  NOZZLE_PROVIDER_NAME: z.string().min(1).max(200).default('Nozzle'),
  /** What a tenant's own keys may upload: calls a minute, and bytes of adapters in all. */
  NOZZLE_TENANT_UPLOADS_PER_MINUTE: z.coerce.number().int().min(1).max(1_000_000).default(120),
  NOZZLE_TENANT_ADAPTER_BYTES_MAX: z.coerce
    .number()
    .int()
    .min(1)
    .default(256 * 1024 ** 3),
  /** Where each charge of usage is sent as a CloudEvent; absent = nowhere. */
  NOZZLE_CLOUDEVENTS_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** Bearer token for it. */
  NOZZLE_CLOUDEVENTS_TOKEN: z.string().min(1).optional(),
})

export type EdgeConfig = ReturnType<typeof toConfig>

/** Throws an Error that names each variable that is wrong. */
export function readEdgeConfig(env: Readonly<Record<string, unknown>>): EdgeConfig {
  const parsed = environment.safeParse(env)
  if (parsed.success) return toConfig(parsed.data)
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  const error = new Error(`configuration: ${issues.join('; ')}`)
  throw Object.assign(error, { code: 'configuration_invalid' })
}

function toConfig(env: z.infer<typeof environment>) {
  return Object.freeze({
    port: env.NOZZLE_PORT,
    address: env.NOZZLE_ADDRESS,
    logLevel: env.NOZZLE_LOG_LEVEL,
    publicUrl: env.NOZZLE_PUBLIC_URL?.replace(/\/+$/, '') ?? null,
    ...toPoolSecrets(env),
    keyPepper: env.NOZZLE_KEY_PEPPER,
    databaseUrl: env.NOZZLE_DATABASE_URL,
    operatorKey: env.NOZZLE_OPERATOR_KEY,
    baseModel: env.NOZZLE_BASE_MODEL_NAME,
    providerName: env.NOZZLE_PROVIDER_NAME,
    tenantUploadsPerMinute: env.NOZZLE_TENANT_UPLOADS_PER_MINUTE,
    tenantAdapterBytesMax: env.NOZZLE_TENANT_ADAPTER_BYTES_MAX,
    /** null = no spans. */
    tracing: toTracingSettings(env),
    cloudEvents:
      env.NOZZLE_CLOUDEVENTS_URL === undefined
        ? null
        : { url: env.NOZZLE_CLOUDEVENTS_URL, token: env.NOZZLE_CLOUDEVENTS_TOKEN ?? null },
  })
}
