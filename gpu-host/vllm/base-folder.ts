/**
 * What a host has to know of the base that its vLLM server serves, from the folder that the server
 * has it from (Hugging Face's layout): shapes, against which uploads are checked, and a digest,
 * which names the base in the digests of its adapters. Weights are not read whole, since they may
 * be hundreds of gigabytes: of every file the digest covers the length and samples of its bytes,
 * which tell two models apart but prove no file to be undamaged.
 */
import { createHash, type Hash } from 'node:crypto'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { BaseShape } from '../adapters/base-shape.ts'
import { HostError } from '../errors.ts'

export interface BaseFolder {
  readonly shape: BaseShape
  readonly vocabularySize: number
  /** `sha256:<hex>` */
  readonly digest: string
}

const VERSION = 'nozzle-base-folder-v1'
const SAMPLES_PER_FILE = 16
const SAMPLE_BYTES = 64 * 1024
/** Their layers have the seven linear modules that adapters may change, under the usual names. */
const ARCHITECTURES = [
  'LlamaForCausalLM',
  'MistralForCausalLM',
  'Qwen2ForCausalLM',
  'Qwen3ForCausalLM',
] as const

const size = z.int().min(1)
const config = z.object({
  architectures: z.tuple([z.enum(ARCHITECTURES)]),
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  vocab_size: size,
})

/** Throws `invalid_request`, naming file and field. */
export async function readBaseFolder(directory: string): Promise<BaseFolder> {
  const text = await readText(join(directory, 'config.json'))
  const parsed = config.safeParse(parseJson(text))
  if (!parsed.success) {
    const issues = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
    throw invalid(`config.json of ${directory}: ${issues.join('; ')}`)
  }
  const told = parsed.data
  return {
    shape: {
      // Not GGUF's name: packs keep the order of rows that these files have.
      architecture: told.architectures[0],
      embeddingLength: told.hidden_size,
      feedForwardLength: told.intermediate_size,
      layerCount: told.num_hidden_layers,
      headCount: told.num_attention_heads,
      headCountKv: told.num_key_value_heads ?? told.num_attention_heads,
      headLength: told.head_dim ?? told.hidden_size / told.num_attention_heads,
    },
    vocabularySize: told.vocab_size,
    digest: await digestOf(directory, text),
  }
}

async function digestOf(directory: string, configText: string): Promise<string> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.safetensors')).sort()
  if (names.length === 0) throw invalid(`${directory} has no .safetensors files`)
  const hash = createHash('sha256').update(`${VERSION}\n${configText.length}\n${configText}\n`)
  for (const name of names) await sampleFile(hash, directory, name)
  return `sha256:${hash.digest('hex')}`
}

/** Evenly over the file, its first and last bytes among them. */
async function sampleFile(hash: Hash, directory: string, name: string): Promise<void> {
  const file = await open(join(directory, name), 'r')
  try {
    const { size: bytes } = await file.stat()
    hash.update(`${name}\n${bytes}\n`)
    const last = Math.max(0, bytes - SAMPLE_BYTES)
    for (let sample = 0; sample < SAMPLES_PER_FILE; sample += 1) {
      const buffer = Buffer.alloc(Math.min(SAMPLE_BYTES, bytes))
      const position = Math.floor((last * sample) / (SAMPLES_PER_FILE - 1))
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position)
      hash.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw invalid(`${path} cannot be read`, error)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function invalid(problem: string, cause?: unknown): HostError {
  const fix = 'NOZZLE_BASE_MODEL_PATH must be the folder that the vLLM server has its model from'
  return new HostError('invalid_request', `${problem}; ${fix}`, { cause })
}
