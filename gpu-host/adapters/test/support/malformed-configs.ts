/** Good weights under a config that must be refused. */
import { readFileSync } from 'node:fs'
import { readParts, writeFiles } from './adapter-files.ts'
import type { MalformedAdapter } from './malformed-adapters.ts'
import { adapterPaths } from './vectors.ts'

/** `undefined` removes the field. */
function field(
  name: string,
  expected: string,
  patch: Readonly<Record<string, unknown>>,
): MalformedAdapter {
  return text(name, expected, (config) => {
    const entries = Object.entries({ ...config, ...patch })
    return JSON.stringify(Object.fromEntries(entries.filter(([, value]) => value !== undefined)))
  })
}

function text(
  name: string,
  expected: string,
  change: (config: Record<string, unknown>) => string | Uint8Array,
): MalformedAdapter {
  return {
    name,
    expected: new RegExp(`^adapter_config\\.json: ${expected}\\b`),
    write(directory, goodDirectory) {
      const { config } = readParts(goodDirectory)
      const weights = readFileSync(adapterPaths(goodDirectory).weightsPath)
      writeFiles(directory, change(config), weights)
    },
  }
}

export const MALFORMED_CONFIGS: readonly MalformedAdapter[] = [
  text('config not JSON', 'config', () => '{"r": 4,'),
  text('config empty', 'config', () => ''),
  text('config an array', 'config', () => '[1, 2]'),
  text('config not UTF-8', 'config', () => Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d)),
  text('config nested without end', 'config', () => '['.repeat(30_000) + ']'.repeat(30_000)),
  text('config with a key twice', 'r', (config) => JSON.stringify(config).replace('{', '{"r":1,')),
  text('alpha NaN', 'config is not JSON: .*NaN', (config) =>
    JSON.stringify({ ...config, lora_alpha: '@' }).replace('"@"', 'NaN'),
  ),
  text('alpha beyond all numbers', 'lora_alpha', (config) =>
    JSON.stringify({ ...config, lora_alpha: '@' }).replace('"@"', '1e999'),
  ),
  field('alpha a text', 'lora_alpha', { lora_alpha: '16' }),
  field('alpha beyond F32', 'lora_alpha', { lora_alpha: 1e300 }),
  field('alpha missing', 'lora_alpha', { lora_alpha: undefined }),
  field('rank 0', 'r', { r: 0 }),
  field('rank negative', 'r', { r: -4 }),
  field('rank fractional', 'r', { r: 4.5 }),
  field('rank huge', 'r', { r: 1_000_000 }),
  field('rank beyond whole numbers', 'r', { r: 2 ** 60 }),
  field('prefix tuning', 'peft_type', { peft_type: 'PREFIX_TUNING', num_virtual_tokens: 20 }),
  field('no PEFT method', 'peft_type', { peft_type: undefined }),
  field('a classifier', 'task_type', { task_type: 'SEQ_CLS' }),
  field('DoRA', 'use_dora', { use_dora: true }),
  field('modules_to_save', 'modules_to_save', { modules_to_save: ['lm_head'] }),
  field('bias all', 'bias', { bias: 'all' }),
  field('LoRA bias', 'lora_bias', { lora_bias: true }),
  field('fan_in_fan_out', 'fan_in_fan_out', { fan_in_fan_out: true }),
  field('PiSSA', 'init_lora_weights', { init_lora_weights: 'pissa_niter_16' }),
  field('OLoRA', 'init_lora_weights', { init_lora_weights: 'olora' }),
  field('LoftQ', 'loftq_config', { loftq_config: { loftq_bits: 4 } }),
  field('CorDA', 'corda_config', { corda_config: { corda_method: 'kpm' } }),
  field('activated LoRA', 'alora_invocation_tokens', { alora_invocation_tokens: [1, 2] }),
  field('QALoRA', 'use_qalora', { use_qalora: true }),
  field('Arrow', 'arrow_config', { arrow_config: { top_k: 3 } }),
  field('Megatron', 'megatron_config', { megatron_config: { hidden_size: 8 } }),
  field('trained tokens', 'trainable_token_indices', { trainable_token_indices: [5] }),
  field('bare parameters', 'target_parameters', { target_parameters: ['mlp.experts'] }),
  field('replicated layers', 'layer_replication', { layer_replication: [[0, 2]] }),
  field('an unknown field', 'mystery_scaling', { mystery_scaling: 2 }),
  field('targets the embeddings', 'target_modules', { target_modules: ['q_proj', 'embed_tokens'] }),
  field('targets the output head', 'target_modules', { target_modules: ['lm_head'] }),
  field('targets nothing', 'target_modules', { target_modules: [] }),
  field('targets by a regex with look-ahead', 'target_modules', { target_modules: '(?!x).*_proj' }),
  field('targets matched by no layer', 'target_modules', { target_modules: ['gpt.q_proj'] }),
  field('a rank pattern that would run for ever', 'rank_pattern', {
    rank_pattern: { '(a+){9}b': 4 },
  }),
  field('rank patterns that take long to match', 'rank_pattern', {
    rank_pattern: Object.fromEntries(
      Array.from({ length: 100 }, (_, i) => [`${'.*'.repeat(20)}x${i}`, 4]),
    ),
  }),
  field('a rank pattern with rank 0', 'rank_pattern', { rank_pattern: { q_proj: 0 } }),
  field('layers by another name', 'layers_pattern', {
    layers_to_transform: [0],
    layers_pattern: 'blocks',
  }),
  field('negative layers', 'layers_to_transform', { layers_to_transform: [-1] }),
]
