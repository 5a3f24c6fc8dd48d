/**
 * The environment of the two children: what the system needs, NOZZLE_* settings passed through, and
 * what the supervisor decides. Invariant: the host is never given a database credential or a key.
 */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { DataDir, Secrets } from '../lib/data-dir.ts'
import type { BaseModelFile } from '../setup/base-model.ts'
import { FIRST_HOST, hostHome, type PlannedHost } from './host-plan.ts'

const SYSTEM_VARIABLES = [
  ...['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR', 'LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH'],
  ...['CUDA_VISIBLE_DEVICES', 'NVIDIA_VISIBLE_DEVICES', 'GGML_BACKEND_PATH'],
  ...['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR'],
]
/** Settings that only the edge may see; NOZZLE_API_KEY is nobody's but the CLI's. */
const EDGE_ONLY = [
  ...['NOZZLE_DATABASE_URL', 'NOZZLE_KEY_PEPPER', 'NOZZLE_OPERATOR_KEY'],
  ...['NOZZLE_PORT', 'NOZZLE_ADDRESS', 'NOZZLE_PUBLIC_URL'],
  ...['NOZZLE_CLOUDEVENTS_URL', 'NOZZLE_CLOUDEVENTS_TOKEN'],
]
/** Settings that only the host may see: of the store and of a vLLM server. */
const HOST_ONLY = [
  ...['NOZZLE_STORE_ACCESS_KEY_ID', 'NOZZLE_STORE_SECRET_ACCESS_KEY'],
  ...['NOZZLE_STORE_SESSION_TOKEN', 'NOZZLE_VLLM_API_KEY'],
]

/** What can be true of one host alone. */
const FIRST_HOST_ONLY = [
  ...['NOZZLE_HOST_ID', 'NOZZLE_HOST_NAME', 'NOZZLE_HOST_PORT', 'NOZZLE_HOST_URL'],
]

export type ChildEnv = Record<string, string>

export interface PoolSettings {
  readonly env: NodeJS.ProcessEnv
  readonly dir: DataDir
  readonly secrets: Secrets
  readonly baseModel: BaseModelFile
}

/** @param boundUrl where the edge listened before; it must come back there. */
export function toEdgeEnv(settings: PoolSettings, boundUrl: string | null): ChildEnv {
  const { env, dir, secrets, baseModel } = settings
  const edgeEnv: ChildEnv = {
    ...passThrough(env, HOST_ONLY),
    NOZZLE_POOL_SECRET: secrets.pool_secret,
    NOZZLE_KEY_PEPPER: secrets.key_pepper,
    NOZZLE_OPERATOR_KEY: secrets.operator_key,
    NOZZLE_DATABASE_URL: env.NOZZLE_DATABASE_URL || `pglite:${dir.database}`,
    NOZZLE_BASE_MODEL_NAME: baseModel.name,
  }
  if (boundUrl) edgeEnv.NOZZLE_PORT = new URL(boundUrl).port
  return edgeEnv
}

/** @param hosts how many share the machine. */
export function toHostEnv(
  settings: PoolSettings,
  edgeUrl: string,
  host: PlannedHost = FIRST_HOST,
  hosts = 1,
): ChildEnv {
  const { env, dir, secrets, baseModel } = settings
  const isFirst = host.name === FIRST_HOST.name
  const threads = Math.max(1, Math.floor(availableParallelism() / hosts))
  return {
    // Engine threads spin: hosts that each take every core would wait for each other.
    ...(hosts > 1 && { NOZZLE_THREADS: String(threads) }),
    NOZZLE_HOST_NAME: host.name,
    ...passThrough(env, isFirst ? EDGE_ONLY : [...EDGE_ONLY, ...FIRST_HOST_ONLY]),
    ...(!isFirst && { NOZZLE_STORE: env.NOZZLE_STORE || join(dir.root, 'store') }),
    ...(host.port > 0 && { NOZZLE_HOST_PORT: String(host.port) }),
    NOZZLE_POOL_SECRET: secrets.pool_secret,
    NOZZLE_DATA_DIR: hostHome(dir, host.name),
    NOZZLE_EDGE_URL: edgeUrl,
    NOZZLE_BASE_MODEL_PATH: baseModel.path,
    NOZZLE_BASE_MODEL_NAME: baseModel.name,
  }
}

function passThrough(env: NodeJS.ProcessEnv, withheld: readonly string[]): ChildEnv {
  const kept: ChildEnv = {}
  for (const [name, value] of Object.entries(env)) {
    const isOurs = name.startsWith('NOZZLE_') && name !== 'NOZZLE_API_KEY'
    const isSystem = SYSTEM_VARIABLES.includes(name) || name.startsWith('LC_')
    // An empty variable means "not set", as in most shells' idiom `NAME= command`.
    if ((isOurs || isSystem) && value && !withheld.includes(name)) kept[name] = value
  }
  return kept
}
