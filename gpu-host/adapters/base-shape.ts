/**
 * Pure: which linear layers of a base model an adapter may change, as PEFT and as GGUF name them,
 * and the shapes that their weights have.
 */
import type { EngineInfo, EngineLimits } from '../engine.ts'
import type { TargetModule } from './adapter-pack.ts'

export type BaseShape = Pick<
  EngineInfo,
  | 'architecture'
  | 'embeddingLength'
  | 'feedForwardLength'
  | 'layerCount'
  | 'headCount'
  | 'headCountKv'
  | 'headLength'
>

/** What adapters are made for and held against; an engine is one. */
export interface AdapterTarget {
  readonly info: BaseShape & Pick<EngineInfo, 'baseModel' | 'baseDigest'>
  readonly limits: Pick<EngineLimits, 'slotCount' | 'slotBytes' | 'rankMax'>
}

/** Path of a target inside a PEFT layer. */
export const PEFT_PATHS: Readonly<Record<TargetModule, string>> = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
}

/** A module as PEFT's own rules see it, without the prefix of the saved tensor names. */
export function peftModuleName(layer: number, target: TargetModule): string {
  return `model.layers.${layer}.${PEFT_PATHS[target]}`
}

export function targetSizes(base: BaseShape, target: TargetModule): { nIn: number; nOut: number } {
  const { embeddingLength, feedForwardLength, headCount, headCountKv, headLength } = base
  switch (target) {
    case 'attn_q':
      return { nIn: embeddingLength, nOut: headCount * headLength }
    case 'attn_k':
    case 'attn_v':
      return { nIn: embeddingLength, nOut: headCountKv * headLength }
    case 'attn_output':
      return { nIn: headCount * headLength, nOut: embeddingLength }
    case 'ffn_gate':
    case 'ffn_up':
      return { nIn: embeddingLength, nOut: feedForwardLength }
    case 'ffn_down':
      return { nIn: feedForwardLength, nOut: embeddingLength }
  }
}

/**
 * Where GGUF keeps output row `row` of a PEFT weight. The llama family's q and k rows are
 * interleaved within each head there: the two halves that RoPE rotates together lie side by side.
 */
export function ggufRow(base: BaseShape, target: TargetModule, row: number): number {
  const isPermuted = target === 'attn_q' || target === 'attn_k'
  if (base.architecture !== 'llama' || !isPermuted) return row
  const { headLength } = base
  const half = headLength / 2
  const inHead = row % headLength
  const isSecondHalf = inHead >= half
  const pair = isSecondHalf ? inHead - half : inHead
  return row - inHead + pair * 2 + (isSecondHalf ? 1 : 0)
}
