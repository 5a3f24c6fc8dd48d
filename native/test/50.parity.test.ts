/**
 * The engine computes what the model says, for every architecture, every way to turn positions into
 * angles, and the plain weight types. The other types: 55.types.test.ts.
 */
import { describeCompany, describeLogits, EVERY_SLOT, FEW_SLOTS } from './support/parity-suite.ts'
import { type SyntheticShape, TINY, TINY_QWEN2, TINY_QWEN3 } from './support/synthetic-gguf.ts'
import { CONTEXT_LENGTH } from './support/test-base.ts'
import { TOLERANCES } from './support/tolerances.ts'

const YARN = { type: 'yarn', factor: 4, originalContextLength: 64 } as const
const LONGROPE = { type: 'longrope', attentionFactor: 1.2 } as const

const SHAPES: Record<string, SyntheticShape> = {
  'llama, F32, tied': TINY,
  'llama, F32, untied': { ...TINY, isTied: false },
  'llama, every query head its own keys': { ...TINY, headCountKv: 4 },
  'llama, twelve query heads on one of keys, 48 values each': {
    ...TINY,
    headCount: 12,
    headCountKv: 1,
    headLength: 48,
  },
  'llama, heads wider than the embedding': { ...TINY, headLength: 32 },
  'llama, biases on every layer': {
    ...TINY,
    biases: ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'],
  },
  'llama, linear RoPE': { ...TINY, ropeScaling: { type: 'linear', factor: 4 } },
  'llama, RoPE divisors': { ...TINY, ropeScaling: { type: 'divisors' } },
  'llama, YaRN': { ...TINY, ropeScaling: YARN },
  'llama, LongRoPE within its original context': {
    ...TINY,
    ropeScaling: { ...LONGROPE, originalContextLength: 2 * CONTEXT_LENGTH },
  },
  'llama, LongRoPE beyond its original context': {
    ...TINY,
    ropeScaling: { ...LONGROPE, originalContextLength: CONTEXT_LENGTH / 2 },
  },
  'llama, F16, untied': { ...TINY, isTied: false, weightType: 'F16' },
  'llama, Q8_0, tied': { ...TINY, weightType: 'Q8_0' },
  'llama, Q8_0, untied': { ...TINY, isTied: false, weightType: 'Q8_0' },
  'qwen2, F32, tied': TINY_QWEN2,
  'qwen2, F32, untied': { ...TINY_QWEN2, isTied: false, biases: [...TINY_QWEN2.biases, 'output'] },
  'qwen2, linear RoPE': { ...TINY_QWEN2, ropeScaling: { type: 'linear', factor: 4 } },
  'qwen2, YaRN': { ...TINY_QWEN2, ropeScaling: YARN },
  'qwen2, Q8_0, untied': { ...TINY_QWEN2, isTied: false, weightType: 'Q8_0' },
  'qwen3, F32, tied': TINY_QWEN3,
  'qwen3, F32, untied': { ...TINY_QWEN3, isTied: false },
  'qwen3, YaRN': { ...TINY_QWEN3, ropeScaling: YARN },
  'qwen3, Q8_0, untied': { ...TINY_QWEN3, isTied: false, weightType: 'Q8_0' },
}

for (const [name, shape] of Object.entries(SHAPES)) {
  describeLogits(name, shape, {
    tolerance: TOLERANCES[shape.weightType],
    librarySlots: shape.isTied ? FEW_SLOTS : EVERY_SLOT,
    float64Slots: EVERY_SLOT,
  })
}

for (const weightType of ['F32', 'F16', 'Q8_0'] as const) {
  describeCompany(`${weightType} weights`, { ...TINY, isTied: false, weightType })
}
describeCompany('qwen2', TINY_QWEN2)
describeCompany('qwen3', { ...TINY_QWEN3, isTied: false, weightType: 'Q8_0' })
