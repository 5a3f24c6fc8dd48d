/**
 * Random adapters for a synthetic base model, in two forms that hold the same numbers: a pack in a
 * slot's layout (gpu-host/adapters/adapter-pack.ts states it; the types here follow it
 * structurally) and a GGUF LoRA file for libllama. Large enough that a wrong adapter shows in every
 * logit.
 */
import { createHash } from 'node:crypto'
import { type TensorSource, writeGguf } from './gguf-writer.ts'
import { fromHalfBits } from './half.ts'
import { Random } from './random.ts'
import {
  type Architecture,
  type LinearName,
  linearLengths,
  type SyntheticShape,
} from './synthetic-gguf.ts'

/** In slot order. */
export const TARGETS: readonly LinearName[] = [
  'attn_q',
  'attn_k',
  'attn_v',
  'attn_output',
  'ffn_gate',
  'ffn_up',
  'ffn_down',
]

export interface AdapterRecipe {
  readonly seed: number
  readonly rank: number
  readonly alpha: number
  /** Absent = all linear layers. */
  readonly targets?: readonly LinearName[]
  /** Targets whose rank differs, as PEFT's rank_pattern does. */
  readonly ranks?: Partial<Record<LinearName, number>>
  readonly base?: { readonly model: string; readonly digest: string }
}

export interface SyntheticModule {
  readonly layer: number
  readonly target: LinearName
  readonly n_in: number
  readonly n_out: number
  readonly rank: number
  readonly a_offset: number
  readonly b_offset: number
  readonly scale: number
}

export interface SyntheticAdapter {
  readonly manifest: {
    readonly format: 1
    readonly digest: string
    readonly base_model: string
    readonly base_digest: string
    readonly rank: number
    readonly alpha: number
    readonly use_rslora: boolean
    readonly target_modules: LinearName[]
    readonly modules: SyntheticModule[]
    readonly payload_bytes: number
    readonly payload_sha256: string
  }
  readonly payload: Uint8Array
}

const BLOCK_ALIGNMENT = 64
/** Share of a layer's own output that the adapter adds to it. */
const EFFECT = 0.5

export function createSyntheticAdapter(
  shape: SyntheticShape,
  recipe: AdapterRecipe,
): SyntheticAdapter {
  const targets = TARGETS.filter((target) => (recipe.targets ?? TARGETS).includes(target))
  const modules: SyntheticModule[] = []
  let payloadBytes = 0
  const reserve = (values: number): number => {
    const offset = payloadBytes
    payloadBytes += Math.ceil((values * 2) / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT
    return offset
  }
  for (let layer = 0; layer < shape.layerCount; layer++) {
    for (const target of targets) {
      const [n_in, n_out] = linearLengths(shape)[target]
      const rank = recipe.ranks?.[target] ?? recipe.rank
      const a_offset = reserve(rank * n_in)
      const b_offset = reserve(rank * n_out)
      const scale = recipe.alpha / rank
      modules.push({ layer, target, n_in, n_out, rank, a_offset, b_offset, scale })
    }
  }
  const payload = new Uint8Array(payloadBytes)
  for (const module of modules) fillModule(new Random('adapter', recipe.seed), module, payload)
  const payloadHash = createHash('sha256').update(payload).digest('hex')
  return {
    manifest: {
      format: 1,
      digest: `sha256:${createHash('sha256').update(payloadHash).update(JSON.stringify(modules)).digest('hex')}`,
      base_model: recipe.base?.model ?? `synthetic-${shape.name}`,
      base_digest: recipe.base?.digest ?? `sha256:${'0'.repeat(64)}`,
      rank: Math.max(...modules.map((module) => module.rank)),
      alpha: recipe.alpha,
      use_rslora: false,
      target_modules: targets,
      modules,
      payload_bytes: payloadBytes,
      payload_sha256: payloadHash,
    },
    payload,
  }
}

/**
 * Writes the adapter as libllama reads it. F32 holds the F16 values exactly and makes libllama keep
 * the activations in F32, as the engine does; with F16 it rounds them to F16 first.
 */
export function writeAdapterGguf(
  path: string,
  adapter: SyntheticAdapter,
  type: 'F32' | 'F16' = 'F32',
  architecture: Architecture = 'llama',
): void {
  writeGguf(
    path,
    {
      'general.type': { text: 'adapter' },
      'general.architecture': { text: architecture },
      'adapter.type': { text: 'lora' },
      'adapter.lora.alpha': { f32: adapter.manifest.alpha },
    },
    adapter.manifest.modules.flatMap((module): TensorSource[] => {
      const { n_in, n_out, rank } = module
      const name = `blk.${module.layer}.${module.target}.weight`
      const a = halvesAt(adapter.payload, module.a_offset, rank * n_in)
      const bt = halvesAt(adapter.payload, module.b_offset, rank * n_out)
      return [
        {
          name: `${name}.lora_a`,
          type,
          shape: [n_in, rank],
          chunks: () => [toBytes(a, type)],
        },
        {
          name: `${name}.lora_b`,
          type,
          shape: [rank, n_out],
          chunks: () => [toBytes(transpose(bt, rank, n_out), type)],
        },
      ]
    }),
  )
}

function fillModule(random: Random, module: SyntheticModule, payload: Uint8Array): void {
  const { n_in, n_out, rank, scale } = module
  const stream = new Random(random.word(), module.layer, module.target)
  stream.fillHalves(halvesAt(payload, module.a_offset, rank * n_in), 1 / Math.sqrt(n_in))
  const deviation = EFFECT / (Math.sqrt(rank) * scale)
  stream.fillHalves(halvesAt(payload, module.b_offset, rank * n_out), deviation)
}

export function halvesAt(payload: Uint8Array, offset: number, count: number): Uint16Array {
  return new Uint16Array(payload.buffer, payload.byteOffset + offset, count)
}

export function transpose(rows: Uint16Array, rowCount: number, rowLength: number): Uint16Array {
  const out = new Uint16Array(rows.length)
  for (let row = 0; row < rowCount; row++) {
    for (let column = 0; column < rowLength; column++) {
      out[column * rowCount + row] = rows[row * rowLength + column] ?? 0
    }
  }
  return out
}

function toBytes(halves: Uint16Array, type: 'F32' | 'F16'): Uint8Array {
  const values = type === 'F16' ? halves : Float32Array.from(halves, fromHalfBits)
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
