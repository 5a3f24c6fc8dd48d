/** The vectors that make_vectors.py made with peft, and the base model that they are for. */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { AdapterImage } from '../../../engine.ts'
import { packModule, TARGET_MODULES } from '../../adapter-pack.ts'
import { planModules } from '../../adapter-plan.ts'
import { fromHalf } from '../../half-float.ts'
import { parsePeftConfig } from '../../peft-config.ts'
import { type ConversionProgress, createPack } from '../../peft-to-pack.ts'
import { SafetensorsFile } from '../../safetensors-reader.ts'

const VECTORS = join(import.meta.dirname, '..', 'vectors')
export const VECTOR_ADAPTERS = [
  'plain',
  'rslora',
  'patterns',
  'patterns-rslora',
  'attention',
  'bf16',
  'one-layer',
] as const

export const VECTOR_BASE = {
  baseModel: 'tiny',
  baseDigest: `sha256:${'b'.repeat(64)}`,
  architecture: 'llama',
  embeddingLength: 32,
  feedForwardLength: 64,
  layerCount: 2,
  headCount: 4,
  headCountKv: 2,
  headLength: 8,
}
export const VECTOR_RANK_MAX = 16

const numbers = z.array(z.number())
const expectedModule = packModule.pick({ layer: true, target: true }).extend({
  probe: numbers,
  /** (merged − base) · probe, rows as in the PEFT weight. */
  delta: numbers,
  /** The same, rows as in GGUF. */
  delta_gguf: numbers,
})

export function vectorDirectory(name: string): string {
  return join(VECTORS, name)
}

export function adapterPaths(directory: string): { configPath: string; weightsPath: string } {
  return {
    configPath: join(directory, 'adapter_config.json'),
    weightsPath: join(directory, 'adapter_model.safetensors'),
  }
}

export function readExpected(name: string): z.infer<typeof expectedModule>[] {
  const lines = readFileSync(join(vectorDirectory(name), 'expected.jsonl'), 'utf8')
    .trim()
    .split('\n')
  return lines
    .map((line) => expectedModule.parse(JSON.parse(line)))
    .sort(
      (a, b) =>
        a.layer - b.layer || TARGET_MODULES.indexOf(a.target) - TARGET_MODULES.indexOf(b.target),
    )
}

export async function convert(
  directory: string,
  base = VECTOR_BASE,
  onProgress?: ConversionProgress,
): Promise<AdapterImage> {
  const { configPath, weightsPath } = adapterPaths(directory)
  const config = parsePeftConfig(await readFile(configPath))
  const weights = await SafetensorsFile.open(weightsPath)
  try {
    const modules = await planModules(config, weights.tensors, base, VECTOR_RANK_MAX)
    const digest = `sha256:${'a'.repeat(64)}`
    return await createPack({ digest, config, modules, weights, base, onProgress })
  } finally {
    await weights.close()
  }
}

/** What the engine adds to a module's output, in float64, and the sum of its terms' magnitudes. */
export function applyModule(
  image: AdapterImage,
  index: number,
  x: readonly number[],
): { y: number[]; magnitude: number[] } {
  const module = image.manifest.modules[index]
  if (module === undefined) throw new Error(`the pack has no module ${index}`)
  const { n_in, n_out, rank, a_offset, b_offset, scale } = module
  const { buffer, byteOffset } = image.payload
  const a = new Uint16Array(buffer, byteOffset + a_offset, rank * n_in)
  const bt = new Uint16Array(buffer, byteOffset + b_offset, rank * n_out)
  const y = new Array<number>(n_out).fill(0)
  const magnitude = new Array<number>(n_out).fill(0)
  for (let r = 0; r < rank; r += 1) {
    let dot = 0
    let size = 0
    for (let i = 0; i < n_in; i += 1) {
      const term = fromHalf(a[r * n_in + i] ?? 0) * (x[i] ?? 0)
      dot += term
      size += Math.abs(term)
    }
    for (let o = 0; o < n_out; o += 1) {
      const b = scale * fromHalf(bt[r * n_out + o] ?? 0)
      y[o] = (y[o] ?? 0) + b * dot
      magnitude[o] = (magnitude[o] ?? 0) + Math.abs(b) * size
    }
  }
  return { y, magnitude }
}
