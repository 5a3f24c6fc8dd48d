/**
 * Base models with random weights that libllama and the engine both load: same shape and file
 * format as real ones, so that tests and benchmarks need no download. Equal shapes give equal
 * bytes.
 */
import {
  Q8_BLOCK_BYTES,
  type TensorSource,
  type TensorType,
  tensorBytes,
  writeGguf,
} from './gguf-writer.ts'
import { toHalfBits } from './half.ts'
import { Random } from './random.ts'
import { syntheticTokenizer, VOCABULARY_MIN } from './synthetic-tokenizer.ts'

export interface SyntheticShape {
  readonly name: string
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
  /** Linear RoPE scaling; 1 = none. */
  readonly ropeFactor: number
  /** Per-frequency divisors, as Llama 3.1 and later carry. */
  readonly hasRopeFrequencies: boolean
}

/** For tests: runs in milliseconds, and has grouped heads and rows of odd tile counts. */
export const TINY: SyntheticShape = {
  name: 'tiny',
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
  ropeFactor: 1,
  hasRopeFrequencies: false,
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
  hasRopeFrequencies: true,
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

/** Writes the model at once; 1 GB takes seconds and a few megabytes of memory. */
export function writeSyntheticGguf(path: string, shape: SyntheticShape): void {
  writeGguf(
    path,
    {
      'general.architecture': { text: 'llama' },
      'general.name': { text: `synthetic ${shape.name}` },
      'llama.block_count': { u32: shape.layerCount },
      'llama.context_length': { u32: shape.contextLength },
      'llama.embedding_length': { u32: shape.embeddingLength },
      'llama.feed_forward_length': { u32: shape.feedForwardLength },
      'llama.attention.head_count': { u32: shape.headCount },
      'llama.attention.head_count_kv': { u32: shape.headCountKv },
      'llama.attention.key_length': { u32: shape.headLength },
      'llama.attention.value_length': { u32: shape.headLength },
      'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
      'llama.rope.dimension_count': { u32: shape.headLength },
      'llama.rope.freq_base': { f32: shape.ropeBase },
      'llama.vocab_size': { u32: shape.vocabularySize },
      ...(shape.ropeFactor === 1
        ? {}
        : {
            'llama.rope.scaling.type': { text: 'linear' },
            'llama.rope.scaling.factor': { f32: shape.ropeFactor },
          }),
      ...syntheticTokenizer(shape.vocabularySize),
    },
    syntheticTensors(shape),
  )
}

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
  const { embeddingLength, vocabularySize, headLength } = shape
  const logitDeviation = LOGIT_DEVIATION / Math.sqrt(embeddingLength)
  const embeddings = [embeddingLength, vocabularySize] as const
  const tensors = [
    weights(shape, 'token_embd.weight', embeddings, logitDeviation),
    norm(shape, 'output_norm.weight'),
  ]
  if (!shape.isTied) tensors.push(weights(shape, 'output.weight', embeddings, logitDeviation))
  if (shape.hasRopeFrequencies) tensors.push(ropeFrequencies(headLength / 2))
  for (let layer = 0; layer < shape.layerCount; layer++) {
    tensors.push(norm(shape, `blk.${layer}.attn_norm.weight`))
    tensors.push(norm(shape, `blk.${layer}.ffn_norm.weight`))
    for (const [target, lengths] of Object.entries(linearLengths(shape))) {
      const name = `blk.${layer}.${target}.weight`
      const gain = target === 'attn_output' || target === 'ffn_down' ? RESIDUAL_GAIN : 1
      tensors.push(weights(shape, name, lengths, gain / Math.sqrt(lengths[0])))
    }
  }
  return tensors
}

function weights(
  { name: model, weightType: type }: SyntheticShape,
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
      const buffer = new Uint8Array(tensorBytes({ type, shape: [CHUNK_VALUES] }))
      const total = tensorBytes({ type, shape })
      for (let done = 0; done < total; done += buffer.length) {
        fillWeights(random, type, buffer, deviation)
        yield buffer.subarray(0, Math.min(buffer.length, total - done))
      }
    },
  }
}

function fillWeights(random: Random, type: TensorType, out: Uint8Array, deviation: number): void {
  switch (type) {
    case 'F32':
      random.fillSingles(new Float32Array(out.buffer), deviation)
      return
    case 'F16':
      random.fillHalves(new Uint16Array(out.buffer), deviation)
      return
    case 'Q8_0':
      fillQ8Blocks(random, out, deviation)
  }
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
function norm({ name: model, embeddingLength }: SyntheticShape, name: string): TensorSource {
  const values = new Float32Array(embeddingLength)
  new Random(model, name).fillSingles(values, 0.2)
  return singles(
    name,
    values.map((value) => 1 + value),
  )
}

/** Slow frequencies are divided, as Llama 3.1 does to stretch its context. */
function ropeFrequencies(count: number): TensorSource {
  const divisor = (_: unknown, index: number) => (index < count / 2 ? 1 : 1 + (index * 31) / count)
  return singles('rope_freqs.weight', Float32Array.from({ length: count }, divisor))
}

function singles(name: string, values: Float32Array): TensorSource {
  return {
    name,
    type: 'F32',
    shape: [values.length],
    chunks: () => [new Uint8Array(values.buffer)],
  }
}
