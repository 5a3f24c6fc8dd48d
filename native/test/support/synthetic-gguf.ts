/**
 * Base models with random weights that libllama and the engine both load: same shape and file
 * format as real ones, so that tests and benchmarks need no download. Equal shapes give equal
 * bytes.
 */
import {
  type MetadataValue,
  Q8_BLOCK_BYTES,
  type TensorSource,
  type TensorType,
  tensorBytes,
  writeGguf,
} from './gguf-writer.ts'
import { toHalfBits } from './half.ts'
import { quantize } from './quantize.ts'
import { Random } from './random.ts'
import { syntheticTokenizer, VOCABULARY_MIN } from './synthetic-tokenizer.ts'

export type Architecture = 'llama' | 'qwen2' | 'qwen3'

/** How positions turn into angles beyond `ropeBase`. */
export type RopeScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | { readonly type: 'yarn'; readonly factor: number; readonly originalContextLength: number }
  /** Two sets of divisors: the long one is for contexts beyond the original length. */
  | {
      readonly type: 'longrope'
      readonly originalContextLength: number
      readonly attentionFactor: number
    }
  /** One set of divisors, as Llama 3.1 and later carry. */
  | { readonly type: 'divisors' }

export interface SyntheticShape {
  readonly name: string
  readonly architecture: Architecture
  readonly layerCount: number
  readonly embeddingLength: number
  readonly headCount: number
  readonly headCountKv: number
  readonly headLength: number
  readonly feedForwardLength: number
  readonly vocabularySize: number
  readonly contextLength: number
  readonly weightType: TensorType
  /** Embeddings serve as output weights. */
  readonly isTied: boolean
  readonly ropeBase: number
  readonly ropeScaling: RopeScaling
  /** Linear layers with a bias; `output` is the one that gives the logits. */
  readonly biases: readonly (LinearName | 'output')[]
  /** Linear layers of another type than `weightType`, as quantizers mix them. */
  readonly otherTypes: Partial<Record<LinearName, TensorType>>
}

/** For tests: runs in milliseconds, and has grouped heads and rows of odd tile counts. */
export const TINY: SyntheticShape = {
  name: 'tiny',
  architecture: 'llama',
  layerCount: 2,
  embeddingLength: 64,
  headCount: 4,
  headCountKv: 2,
  headLength: 16,
  feedForwardLength: 128,
  vocabularySize: Math.ceil(VOCABULARY_MIN / 32) * 32,
  contextLength: 512,
  weightType: 'F32',
  isTied: true,
  ropeBase: 10_000,
  ropeScaling: { type: 'none' },
  biases: [],
  otherTypes: {},
}

/** What the Qwen architectures have that llama has not. */
export const TINY_QWEN2: SyntheticShape = {
  ...TINY,
  architecture: 'qwen2',
  biases: ['attn_q', 'attn_k', 'attn_v'],
}
export const TINY_QWEN3: SyntheticShape = { ...TINY, architecture: 'qwen3', headLength: 32 }

/** Rows that are whole blocks of every quantised type. */
export const TINY_256: SyntheticShape = {
  ...TINY,
  embeddingLength: 256,
  headLength: 64,
  feedForwardLength: 256,
}

/** SmolLM2-135M's shape. */
export const DEMO: SyntheticShape = {
  ...TINY,
  name: 'demo',
  layerCount: 30,
  embeddingLength: 576,
  headCount: 9,
  headCountKv: 3,
  headLength: 64,
  feedForwardLength: 1536,
  vocabularySize: 49_152,
  contextLength: 8192,
  weightType: 'Q8_0',
  ropeBase: 100_000,
}

/** Llama 3.2 1B's shape. */
export const ONE_B: SyntheticShape = {
  ...DEMO,
  name: '1b',
  layerCount: 16,
  embeddingLength: 2048,
  headCount: 32,
  headCountKv: 8,
  feedForwardLength: 8192,
  vocabularySize: 128_256,
  ropeBase: 500_000,
  ropeScaling: { type: 'divisors' },
}

/** Llama 2 7B's shape. */
export const SEVEN_B: SyntheticShape = {
  ...DEMO,
  name: '7b',
  layerCount: 32,
  embeddingLength: 4096,
  headCount: 32,
  headCountKv: 32,
  headLength: 128,
  feedForwardLength: 11_008,
  vocabularySize: 32_000,
  contextLength: 4096,
  isTied: false,
  ropeBase: 10_000,
}

/** Spread of the logits that random weights give: enough to tell tokens apart. */
const LOGIT_DEVIATION = 2.5
/** What layers add to the residual outweighs the embedding, so that tied weights do not echo it. */
const RESIDUAL_GAIN = 3
/** Odd bytes from −127 to 127, uniform. */
const Q8_VALUE_DEVIATION = 128 / Math.sqrt(3)
const CHUNK_VALUES = 1 << 20
/** Of the size of what a linear layer gives. */
const BIAS_DEVIATION = 0.5

/** Writes the model at once; 1 GB takes seconds and a few megabytes of memory. */
export function writeSyntheticGguf(
  path: string,
  shape: SyntheticShape,
  changes: Readonly<Record<string, MetadataValue>> = {},
): void {
  writeGguf(path, { ...syntheticMetadata(shape), ...changes }, syntheticTensors(shape))
}

function syntheticMetadata(shape: SyntheticShape): Record<string, MetadataValue> {
  const model: Record<string, MetadataValue> = {
    block_count: { u32: shape.layerCount },
    context_length: { u32: shape.contextLength },
    embedding_length: { u32: shape.embeddingLength },
    feed_forward_length: { u32: shape.feedForwardLength },
    'attention.head_count': { u32: shape.headCount },
    'attention.head_count_kv': { u32: shape.headCountKv },
    'attention.key_length': { u32: shape.headLength },
    'attention.value_length': { u32: shape.headLength },
    'attention.layer_norm_rms_epsilon': { f32: 1e-5 },
    'rope.dimension_count': { u32: shape.headLength },
    'rope.freq_base': { f32: shape.ropeBase },
    vocab_size: { u32: shape.vocabularySize },
    ...ropeMetadata(shape.ropeScaling),
  }
  return {
    'general.architecture': { text: shape.architecture },
    'general.name': { text: `synthetic ${shape.name}` },
    ...Object.fromEntries(
      Object.entries(model).map(([key, value]) => [`${shape.architecture}.${key}`, value]),
    ),
    ...syntheticTokenizer(shape.vocabularySize),
  }
}

function ropeMetadata(scaling: RopeScaling): Record<string, MetadataValue> {
  if (scaling.type === 'none' || scaling.type === 'divisors') return {}
  return {
    'rope.scaling.type': { text: scaling.type },
    ...('factor' in scaling ? { 'rope.scaling.factor': { f32: scaling.factor } } : {}),
    ...('originalContextLength' in scaling
      ? { 'rope.scaling.original_context_length': { u32: scaling.originalContextLength } }
      : {}),
    ...('attentionFactor' in scaling
      ? { 'rope.scaling.attn_factor': { f32: scaling.attentionFactor } }
      : {}),
  }
}

export type LinearName = keyof ReturnType<typeof linearLengths>

/** Lengths of a linear layer's input and output, by GGUF name. */
export function linearLengths(shape: SyntheticShape) {
  const { embeddingLength: n, feedForwardLength: wide, headLength } = shape
  const queries = shape.headCount * headLength
  const keys = shape.headCountKv * headLength
  return {
    attn_q: [n, queries],
    attn_k: [n, keys],
    attn_v: [n, keys],
    attn_output: [queries, n],
    ffn_gate: [n, wide],
    ffn_up: [n, wide],
    ffn_down: [wide, n],
  } as const satisfies Record<string, readonly [number, number]>
}

/** The weights, as the file holds them. */
export function syntheticTensors(shape: SyntheticShape): TensorSource[] {
  const { embeddingLength, vocabularySize, headLength, weightType, otherTypes } = shape
  const logitDeviation = LOGIT_DEVIATION / Math.sqrt(embeddingLength)
  const embeddings = [embeddingLength, vocabularySize] as const
  const tensors = [
    weights(shape, weightType, 'token_embd.weight', embeddings, logitDeviation),
    norm(shape, 'output_norm.weight', embeddingLength),
  ]
  if (!shape.isTied) {
    tensors.push(weights(shape, weightType, 'output.weight', embeddings, logitDeviation))
  }
  if (shape.biases.includes('output')) tensors.push(bias(shape, 'output.bias', vocabularySize))
  tensors.push(...ropeDivisors(shape))
  for (let layer = 0; layer < shape.layerCount; layer++) {
    const prefix = `blk.${layer}.`
    tensors.push(norm(shape, `${prefix}attn_norm.weight`, embeddingLength))
    tensors.push(norm(shape, `${prefix}ffn_norm.weight`, embeddingLength))
    if (shape.architecture === 'qwen3') {
      tensors.push(norm(shape, `${prefix}attn_q_norm.weight`, headLength))
      tensors.push(norm(shape, `${prefix}attn_k_norm.weight`, headLength))
    }
    for (const [target, lengths] of Object.entries(linearLengths(shape))) {
      // Object.entries forgets the keys' type.
      const linear = target as LinearName
      const type = otherTypes[linear] ?? weightType
      const gain = linear === 'attn_output' || linear === 'ffn_down' ? RESIDUAL_GAIN : 1
      const deviation = gain / Math.sqrt(lengths[0])
      tensors.push(weights(shape, type, `${prefix}${linear}.weight`, lengths, deviation))
      if (shape.biases.includes(linear)) {
        tensors.push(bias(shape, `${prefix}${linear}.bias`, lengths[1]))
      }
    }
  }
  return tensors
}

function weights(
  { name: model }: SyntheticShape,
  type: TensorType,
  name: string,
  shape: readonly [number, number],
  deviation: number,
): TensorSource {
  return {
    name,
    type,
    shape,
    chunks: function* () {
      const random = new Random(model, name)
      const fill = CHUNK_FILLERS[type]
      if (!fill) {
        const values = new Float32Array(shape[0] * shape[1])
        random.fillSingles(values, deviation)
        yield quantize(type, values)
        return
      }
      const buffer = new Uint8Array(tensorBytes({ type, shape: [CHUNK_VALUES] }))
      const total = tensorBytes({ type, shape })
      for (let done = 0; done < total; done += buffer.length) {
        fill(random, buffer, deviation)
        yield buffer.subarray(0, Math.min(buffer.length, total - done))
      }
    },
  }
}

/** Types that are drawn as they stand in the file, fast enough for gigabytes. */
const CHUNK_FILLERS: Partial<
  Record<TensorType, (random: Random, out: Uint8Array, deviation: number) => void>
> = {
  F32: (random, out, deviation) => random.fillSingles(new Float32Array(out.buffer), deviation),
  F16: (random, out, deviation) => random.fillHalves(new Uint16Array(out.buffer), deviation),
  Q8_0: fillQ8Blocks,
}

/** A scale in F16, then 32 signed bytes; all blocks share the scale. */
function fillQ8Blocks(random: Random, out: Uint8Array, deviation: number): void {
  const words = new Uint32Array(out.buffer)
  random.fillWords(words)
  // Odd, since quantizers never give −128.
  for (let i = 0; i < words.length; i++) words[i] = (words[i] ?? 0) | 0x0101_0101
  const halves = new Uint16Array(out.buffer)
  const scale = toHalfBits(deviation / Q8_VALUE_DEVIATION)
  for (let i = 0; i < halves.length; i += Q8_BLOCK_BYTES / 2) halves[i] = scale
}

/** Around 1, and no two alike, so that leaving one out shows. */
function norm({ name: model }: SyntheticShape, name: string, length: number): TensorSource {
  const values = new Float32Array(length)
  new Random(model, name).fillSingles(values, 0.2)
  return singles(
    name,
    values.map((value) => 1 + value),
  )
}

function bias({ name: model }: SyntheticShape, name: string, length: number): TensorSource {
  const values = new Float32Array(length)
  new Random(model, name).fillSingles(values, BIAS_DEVIATION)
  return singles(name, values)
}

/** Slow frequencies are divided, as models do to stretch their context. */
function ropeDivisors({ ropeScaling, headLength }: SyntheticShape): TensorSource[] {
  const count = headLength / 2
  const divisors = (name: string, growth: number) => {
    const divisor = (_: unknown, index: number) =>
      index < count / 2 ? 1 : 1 + (index * growth) / count
    return singles(name, Float32Array.from({ length: count }, divisor))
  }
  if (ropeScaling.type === 'divisors') return [divisors('rope_freqs.weight', 31)]
  if (ropeScaling.type !== 'longrope') return []
  return [divisors('rope_factors_long.weight', 15), divisors('rope_factors_short.weight', 3)]
}

function singles(name: string, values: Float32Array): TensorSource {
  return {
    name,
    type: 'F32',
    shape: [values.length],
    chunks: () => [new Uint8Array(values.buffer)],
  }
}
