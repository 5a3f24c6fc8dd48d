/**
 * What a host must be told of its vLLM server, as far as the server does not tell it: the numbers
 * are those of the server's own flags.
 */
import { join, resolve } from 'node:path'
import { z } from 'zod'

export const vllmEnvironment = {
  /** `vllm`: requests go to a vLLM server at `NOZZLE_VLLM_URL`. */
  NOZZLE_ENGINE: z.enum(['native', 'vllm']).default('native'),
  /** Of the server's OpenAI API, without `/v1`. */
  NOZZLE_VLLM_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** The server's `--api-key`. */
  NOZZLE_VLLM_API_KEY: z.string().min(1).optional(),
  /** The server's `--served-model-name`; by default the one base that it lists. */
  NOZZLE_VLLM_MODEL: z.string().min(1).optional(),
  /** Folder for adapters, which the server must be able to read. */
  NOZZLE_VLLM_LORA_DIR: z.string().min(1).optional(),
  /** Where the server has that folder, if it is elsewhere there. */
  NOZZLE_VLLM_LORA_DIR_ON_SERVER: z.string().min(1).optional(),
  /** The server's `--max-cpu-loras`; by default NOZZLE_SLOTS, which is its `--max-loras`. */
  NOZZLE_VLLM_CPU_LORAS: z.coerce.number().int().min(1).max(100_000).optional(),
  /** A start waits for so long for the server's. */
  NOZZLE_VLLM_START_WAIT_MS: z.coerce.number().int().min(0).max(86_400_000).default(600_000),
  /** An answer that does not go on for so long has failed. */
  NOZZLE_VLLM_STALL_MAX_MS: z.coerce.number().int().min(100).max(3_600_000).default(120_000),
}

type VllmEnvironment = z.infer<z.ZodObject<typeof vllmEnvironment>> & {
  readonly NOZZLE_SLOTS: number
}

export interface VllmSettings {
  /** Without a slash at its end. */
  readonly url: string
  readonly apiKey: string | null
  readonly model: string | null
  readonly loraDirectory: string
  readonly serverLoraDirectory: string
  /** Adapters that the server holds, on its devices or beside them. */
  readonly cpuLoras: number
  readonly startWaitMs: number
  readonly stallMaxMs: number
}

/** null = the native engine. Throws an Error that names the variable. */
export function toVllmSettings(env: VllmEnvironment, hostDirectory: string): VllmSettings | null {
  if (env.NOZZLE_ENGINE === 'native') return null
  if (env.NOZZLE_VLLM_URL === undefined) {
    throw new Error('NOZZLE_VLLM_URL: needed with NOZZLE_ENGINE=vllm, e.g. http://127.0.0.1:8000')
  }
  const cpuLoras = env.NOZZLE_VLLM_CPU_LORAS ?? env.NOZZLE_SLOTS
  if (cpuLoras < env.NOZZLE_SLOTS) {
    throw new Error(`NOZZLE_VLLM_CPU_LORAS: ${cpuLoras} is less than NOZZLE_SLOTS; raise it`)
  }
  const loraDirectory = resolve(env.NOZZLE_VLLM_LORA_DIR ?? join(hostDirectory, 'vllm-loras'))
  return {
    url: env.NOZZLE_VLLM_URL.replace(/\/+$/, '').replace(/\/v1$/, ''),
    apiKey: env.NOZZLE_VLLM_API_KEY ?? null,
    model: env.NOZZLE_VLLM_MODEL ?? null,
    loraDirectory,
    serverLoraDirectory: env.NOZZLE_VLLM_LORA_DIR_ON_SERVER ?? loraDirectory,
    cpuLoras,
    startWaitMs: env.NOZZLE_VLLM_START_WAIT_MS,
    stallMaxMs: env.NOZZLE_VLLM_STALL_MAX_MS,
  }
}
