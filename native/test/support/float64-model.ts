/**
 * The same model computed naively in float64 from the definition of its architecture: the judge of
 * who is right where the engine and libllama differ. Weights are taken as stored; the only rounding
 * it shares with the engine is that cached keys and values are F16. Slow; for TINY shapes.
 */
import { type Angles, ropeAngles, rotate } from './float64-rope.ts'
import type { TensorSource } from './gguf-writer.ts'
import { fromHalfBits, toHalfBits } from './half.ts'
import { dequantize } from './quantize.ts'
import type { SyntheticAdapter } from './synthetic-adapter.ts'
import {
  type LinearName,
  linearLengths,
  type SyntheticShape,
  syntheticTensors,
} from './synthetic-gguf.ts'

const EPSILON = 1e-5

export class Float64Model {
  readonly #shape: SyntheticShape
  readonly #tensors: ReadonlyMap<string, Float64Array>
  readonly #angles: Angles

  /** `contextLength`: that of the engine, which some RoPE scalings look at. */
  constructor(shape: SyntheticShape, contextLength: number) {
    this.#shape = shape
    this.#tensors = new Map(syntheticTensors(shape).map((tensor) => [tensor.name, decode(tensor)]))
    this.#angles = ropeAngles(shape, contextLength, (name) => this.#tensor(name))
  }

  /** Logits after each token. */
  logits(tokens: readonly number[], adapter: SyntheticAdapter | null): Float64Array[] {
    const { embeddingLength, layerCount, vocabularySize } = this.#shape
    const embeddings = this.#tensor('token_embd.weight')
    let hidden: Float64Array[] = tokens.map((token) =>
      embeddings.slice(token * embeddingLength, (token + 1) * embeddingLength),
    )
    for (let layer = 0; layer < layerCount; layer++) hidden = this.#layer(hidden, layer, adapter)
    const output = this.#shape.isTied ? embeddings : this.#tensor('output.weight')
    const scale = this.#tensor('output_norm.weight')
    const bias = this.#tensors.get('output.bias') ?? new Float64Array()
    return hidden.map((x) => add(multiply(output, normalize(x, scale), vocabularySize), bias))
  }

  #layer(hidden: Float64Array[], layer: number, adapter: SyntheticAdapter | null): Float64Array[] {
    const linear = (target: LinearName, x: Float64Array) => {
      const y = multiply(
        this.#tensor(`blk.${layer}.${target}.weight`),
        x,
        linearLengths(this.#shape)[target][1],
      )
      const bias = this.#tensors.get(`blk.${layer}.${target}.bias`) ?? new Float64Array()
      return add(add(y, adapterOutput(adapter, layer, target, x)), bias)
    }
    const heads = (target: 'attn_q' | 'attn_k', x: Float64Array, position: number) =>
      this.#rotateHeads(linear(target, x), position, `blk.${layer}.${target}_norm.weight`)
    const attentionScale = this.#tensor(`blk.${layer}.attn_norm.weight`)
    const normed = hidden.map((x) => normalize(x, attentionScale))
    const queries = normed.map((x, position) => heads('attn_q', x, position))
    const keys = normed.map((x, position) => roundHalf(heads('attn_k', x, position)))
    const values = normed.map((x) => roundHalf(linear('attn_v', x)))
    const feedForwardScale = this.#tensor(`blk.${layer}.ffn_norm.weight`)
    return hidden.map((x, position) => {
      const query = queries[position] ?? new Float64Array()
      const mixed = this.#attend(query, keys.slice(0, position + 1), values)
      const middle = add(x, linear('attn_output', mixed))
      const input = normalize(middle, feedForwardScale)
      const up = linear('ffn_up', input)
      const gated = linear('ffn_gate', input).map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] ?? 0))
      return add(middle, linear('ffn_down', gated))
    })
  }

  /** Each head by itself: normalised where the architecture does, then rotated. */
  #rotateHeads(x: Float64Array, position: number, normName: string): Float64Array {
    const { architecture, headLength } = this.#shape
    const out = new Float64Array(x.length)
    for (let at = 0; at < x.length; at += headLength) {
      const head = x.slice(at, at + headLength)
      const normed = architecture === 'qwen3' ? normalize(head, this.#tensor(normName)) : head
      out.set(rotate(normed, position, this.#angles), at)
    }
    return out
  }

  #attend(query: Float64Array, keys: Float64Array[], values: Float64Array[]): Float64Array {
    const { headCount, headCountKv, headLength } = this.#shape
    const out = new Float64Array(headCount * headLength)
    for (let head = 0; head < headCount; head++) {
      const at = head * headLength
      const cached = Math.floor((head * headCountKv) / headCount) * headLength
      const scores = keys.map((key) => {
        let sum = 0
        for (let d = 0; d < headLength; d++) sum += (query[at + d] ?? 0) * (key[cached + d] ?? 0)
        return sum / Math.sqrt(headLength)
      })
      const top = Math.max(...scores)
      const weights = scores.map((score) => Math.exp(score - top))
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      weights.forEach((weight, cell) => {
        for (let d = 0; d < headLength; d++) {
          out[at + d] = (out[at + d] ?? 0) + (weight / total) * (values[cell]?.[cached + d] ?? 0)
        }
      })
    }
    return out
  }

  #tensor(name: string): Float64Array {
    const values = this.#tensors.get(name)
    if (!values) throw new Error(`${name} is missing`)
    return values
  }
}

/** scale · B(A x); zeros where the adapter leaves the module alone. */
function adapterOutput(
  adapter: SyntheticAdapter | null,
  layer: number,
  target: LinearName,
  x: Float64Array,
): Float64Array {
  const module = adapter?.manifest.modules.find((m) => m.layer === layer && m.target === target)
  if (!adapter || !module) return new Float64Array()
  const { n_in, n_out, rank, scale } = module
  const view = new DataView(adapter.payload.buffer, adapter.payload.byteOffset)
  const half = (offset: number, index: number) =>
    fromHalfBits(view.getUint16(offset + index * 2, true))
  const y = new Float64Array(n_out)
  for (let r = 0; r < rank; r++) {
    let shrunk = 0
    for (let i = 0; i < n_in; i++) shrunk += half(module.a_offset, r * n_in + i) * (x[i] ?? 0)
    for (let o = 0; o < n_out; o++) {
      y[o] = (y[o] ?? 0) + scale * shrunk * half(module.b_offset, r * n_out + o)
    }
  }
  return y
}

function multiply(matrix: Float64Array, x: Float64Array, rows: number): Float64Array {
  const y = new Float64Array(rows)
  for (let row = 0; row < rows; row++) {
    let sum = 0
    const begin = row * x.length
    for (let i = 0; i < x.length; i++) sum += (matrix[begin + i] ?? 0) * (x[i] ?? 0)
    y[row] = sum
  }
  return y
}

function normalize(x: Float64Array, scale: Float64Array): Float64Array {
  const meanSquare = x.reduce((sum, value) => sum + value * value, 0) / x.length
  return x.map((value, i) => (value / Math.sqrt(meanSquare + EPSILON)) * (scale[i] ?? 0))
}

function add(x: Float64Array, y: Float64Array): Float64Array {
  return x.map((value, i) => value + (y[i] ?? 0))
}

function roundHalf(x: Float64Array): Float64Array {
  return x.map((value) => fromHalfBits(toHalfBits(value)))
}

function decode(tensor: TensorSource): Float64Array {
  const bytes = Buffer.concat([...tensor.chunks()].map((chunk) => Uint8Array.from(chunk)))
  const { buffer, length } = Uint8Array.from(bytes)
  if (tensor.type === 'F32') return Float64Array.from(new Float32Array(buffer, 0, length / 4))
  if (tensor.type === 'F16') return Float64Array.from(new Uint16Array(buffer), fromHalfBits)
  return Float64Array.from(dequantize(tensor.type, new Uint8Array(buffer)))
}
