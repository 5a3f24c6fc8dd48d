/** The engine computes what the model says in every weight type that it serves, and in mixes. */
import type { TensorType } from './support/gguf-writer.ts'
import { describeLogits, FEW_SLOTS } from './support/parity-suite.ts'
import { type SyntheticShape, TINY_256 } from './support/synthetic-gguf.ts'
import { TOLERANCES } from './support/tolerances.ts'

function describeWeights(name: string, shape: SyntheticShape): void {
  describeLogits(name, shape, {
    tolerance: TOLERANCES[shape.weightType],
    librarySlots: FEW_SLOTS,
    float64Slots: FEW_SLOTS,
  })
}

/** Take ggml seconds per layer to quantise. */
const SLOW_TYPES: readonly TensorType[] = ['IQ3_XXS', 'IQ3_S']

for (const weightType of Object.keys(TOLERANCES) as TensorType[]) {
  if (SLOW_TYPES.includes(weightType)) continue
  describeWeights(`${weightType} weights`, { ...TINY_256, weightType })
}

/** Layers that share an input and yet need it rounded in several ways. */
describeWeights('the types of a Q4_K_M file', {
  ...TINY_256,
  architecture: 'qwen3',
  weightType: 'Q4_K',
  otherTypes: { attn_v: 'Q6_K', ffn_down: 'Q6_K' },
})
describeWeights('a type for each layer', {
  ...TINY_256,
  architecture: 'qwen2',
  biases: ['attn_q', 'attn_k', 'attn_v'],
  weightType: 'Q5_1',
  otherTypes: { attn_q: 'F16', attn_k: 'Q3_K', attn_v: 'Q8_0', ffn_gate: 'IQ4_XS', ffn_up: 'Q4_0' },
})
describeWeights('the types of an IQ3 file', {
  ...TINY_256,
  weightType: 'IQ4_XS',
  otherTypes: { attn_q: 'IQ3_XXS', attn_k: 'IQ3_S' },
})
