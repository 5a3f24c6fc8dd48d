/**
 * The benchmark's base model and adapters as PyTorch programs read them: a Hugging Face folder in
 * BF16 and PEFT folders in F16, with the numbers of the GGUF and the packs. GGUF interleaves the
 * rows of each head's two halves in q and k; here they are set apart again.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { ggufRow, PEFT_PATHS, peftModuleName } from '../../gpu-host/adapters/base-shape.ts'
import { writeParts } from '../../gpu-host/adapters/test/support/adapter-files.ts'
import { Q8_BLOCK_BYTES, type TensorSource } from '../../native/test/support/gguf-writer.ts'
import { fromHalfBits } from '../../native/test/support/half.ts'
import {
  halvesAt,
  type SyntheticAdapter,
  type SyntheticModule,
  transpose,
} from '../../native/test/support/synthetic-adapter.ts'
import {
  type LinearName,
  type SyntheticShape,
  syntheticTensors,
} from '../../native/test/support/synthetic-gguf.ts'

const Q8_BLOCK_VALUES = 32
const OTHER_NAMES: Readonly<Record<string, string>> = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
  attn_norm: 'input_layernorm',
  ffn_norm: 'post_attention_layernorm',
}
const BF16_BYTES = 2

/**
 * Writes the folder once. What `rope_freqs.weight` of a GGUF does has no name in a config: RoPE is
 * unscaled here, which costs the same time and changes what comes after the first position.
 */
export function ensureHuggingFaceModel(directory: string, shape: SyntheticShape): string {
  if (existsSync(directory)) return directory
  const staged = `${directory}.part`
  mkdirSync(staged, { recursive: true })
  writeFileSync(join(staged, 'config.json'), JSON.stringify(toConfig(shape), null, 2))
  writeWeights(join(staged, 'model.safetensors'), shape)
  renameSync(staged, directory)
  return directory
}

/** A PEFT adapter: adapter_config.json and adapter_model.safetensors. */
export function writePeftAdapter(
  directory: string,
  adapter: SyntheticAdapter,
  shape: SyntheticShape,
): void {
  mkdirSync(directory, { recursive: true })
  const { rank, alpha, target_modules: targets } = adapter.manifest
  writeParts(directory, {
    config: {
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: rank,
      lora_alpha: alpha,
      lora_dropout: 0,
      bias: 'none',
      target_modules: targets.map((target) => PEFT_PATHS[target].split('.')[1]),
    },
    tensors: adapter.manifest.modules.flatMap((module) => {
      const { n_in, n_out, rank: rows, layer, target } = module
      const name = `base_model.model.${peftModuleName(layer, target)}`
      const a = halvesAt(adapter.payload, module.a_offset, rows * n_in)
      return [
        { name: `${name}.lora_A.weight`, dtype: 'F16', shape: [rows, n_in], bytes: bytesOf(a) },
        {
          name: `${name}.lora_B.weight`,
          dtype: 'F16',
          shape: [n_out, rows],
          bytes: bytesOf(upMatrix(adapter, module, shape)),
        },
      ]
    }),
  })
}

/** PEFT's B, [n_out, rank]. */
function upMatrix(
  { payload }: SyntheticAdapter,
  { n_out, rank, b_offset, target }: SyntheticModule,
  shape: SyntheticShape,
): Uint16Array {
  const rows = transpose(halvesAt(payload, b_offset, rank * n_out), rank, n_out)
  return toPeftRows(rows, rank, target, shape)
}

function toConfig(shape: SyntheticShape): object {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    torch_dtype: 'bfloat16',
    hidden_act: 'silu',
    hidden_size: shape.embeddingLength,
    intermediate_size: shape.feedForwardLength,
    num_hidden_layers: shape.layerCount,
    num_attention_heads: shape.headCount,
    num_key_value_heads: shape.headCountKv,
    head_dim: shape.headLength,
    vocab_size: shape.vocabularySize,
    max_position_embeddings: shape.contextLength,
    rope_theta: shape.ropeBase,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: shape.isTied,
    attention_bias: false,
    mlp_bias: false,
    bos_token_id: 1,
    eos_token_id: 2,
  }
}

/** Header, then the tensors one after the other, so that gigabytes need megabytes. */
function writeWeights(path: string, shape: SyntheticShape): void {
  const tensors = syntheticTensors(shape).filter(({ name }) => name !== 'rope_freqs.weight')
  let end = 0
  const entries = tensors.map(({ name, shape: lengths }) => {
    const begin = end
    end += lengths.reduce((product, length) => product * length, BF16_BYTES)
    const entry = { dtype: 'BF16', shape: [...lengths].reverse(), data_offsets: [begin, end] }
    return [toHuggingFaceName(name), entry] as const
  })
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const file = openSync(path, 'w')
  try {
    for (const part of [length, header]) writeSync(file, part)
    for (const tensor of tensors) {
      for (const chunk of toBf16(tensor, shape)) {
        for (let done = 0; done < chunk.length; ) done += writeSync(file, chunk, done)
      }
    }
  } finally {
    closeSync(file)
  }
}

function toHuggingFaceName(name: string): string {
  const [, layer, part = ''] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? []
  if (layer === undefined) return OTHER_NAMES[name] ?? unknown(name)
  if (isTarget(part)) return `${peftModuleName(Number(layer), part)}.weight`
  return `model.layers.${layer}.${OTHER_NAMES[part] ?? unknown(name)}.weight`
}

function unknown(name: string): never {
  throw new RangeError(`no name for the tensor ${name} in a Hugging Face folder`)
}

function* toBf16(tensor: TensorSource, shape: SyntheticShape): Iterable<Uint8Array> {
  const target = tensor.name.split('.')[2] ?? ''
  if (target !== 'attn_q' && target !== 'attn_k') {
    for (const chunk of tensor.chunks()) yield bytesOf(roundToBf16(tensor, chunk))
    return
  }
  const values = Buffer.concat([...tensor.chunks()].map((chunk) => Uint8Array.from(chunk)))
  yield bytesOf(toPeftRows(roundToBf16(tensor, values), tensor.shape[0], target, shape))
}

function isTarget(part: string): part is LinearName {
  return Object.hasOwn(PEFT_PATHS, part)
}

/** Rows of a module's output, from where GGUF keeps them. */
function toPeftRows(
  rows: Uint16Array,
  rowLength: number,
  target: LinearName,
  shape: SyntheticShape,
): Uint16Array {
  const out = new Uint16Array(rows.length)
  for (let row = 0; row * rowLength < rows.length; row++) {
    const from = ggufRow({ ...shape, architecture: 'llama' }, target, row) * rowLength
    out.set(rows.subarray(from, from + rowLength), row * rowLength)
  }
  return out
}

function roundToBf16({ name, type }: TensorSource, chunk: Uint8Array): Uint16Array {
  switch (type) {
    case 'F32':
      return halvesOfSingles(new Float32Array(Uint8Array.from(chunk).buffer))
    case 'Q8_0':
      return dequantizeQ8(chunk)
    default:
      throw new RangeError(`${name} is ${type}; F32 and Q8_0 are written as BF16`)
  }
}

/** A block is a scale in F16 and 32 signed bytes. */
function dequantizeQ8(blocks: Uint8Array): Uint16Array {
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.byteLength)
  const out = new Uint16Array((blocks.length / Q8_BLOCK_BYTES) * Q8_BLOCK_VALUES)
  let values: Uint16Array = new Uint16Array(256)
  let valuesScale = -1
  for (let block = 0, at = 0; block < blocks.length; block += Q8_BLOCK_BYTES) {
    const scale = view.getUint16(block, true)
    if (scale !== valuesScale) {
      const factor = fromHalfBits(scale)
      values = halvesOfSingles(
        Float32Array.from({ length: 256 }, (_, byte) => ((byte << 24) >> 24) * factor),
      )
      valuesScale = scale
    }
    for (let i = 2; i < Q8_BLOCK_BYTES; i++) out[at++] = values[blocks[block + i] ?? 0] ?? 0
  }
  return out
}

/** Nearest, ties to even; for finite values. */
function halvesOfSingles(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16)
}

function bytesOf(values: Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
