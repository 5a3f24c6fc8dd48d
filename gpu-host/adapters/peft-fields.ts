/** Fields of PEFT's LoraConfig by what a value in them means here. Names are PEFT's, to 0.21. */

/** Whatever they hold, the trained weights mean the same. */
export const INERT_FIELDS: ReadonlySet<string> = new Set([
  'auto_mapping',
  'base_model_name_or_path',
  'ensure_weight_tying',
  'inference_mode',
  'lora_dropout',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
])

/** Refused unless null, false or empty; the text says what to do. */
export const REFUSED_FIELDS: ReadonlyMap<string, string> = new Map([
  ['use_dora', 'DoRA is not served; train with use_dora=false'],
  ['modules_to_save', 'full copies of modules are not served; train without modules_to_save'],
  ['lora_bias', 'biases are not served; train with lora_bias=false'],
  ['fan_in_fan_out', 'transposed weights are not served; only Linear layers are'],
  ['trainable_token_indices', 'token embeddings are not served; train without them'],
  ['target_parameters', 'bare parameters are not served; use target_modules'],
  ['layer_replication', 'replicated layers are another base model; train on the base as it is'],
  ['loftq_config', 'LoftQ changes the base model; train with init_lora_weights=true'],
  ['corda_config', 'CorDA changes the base model; train with init_lora_weights=true'],
  ['lora_ga_config', 'LoRA-GA changes the base model; train with init_lora_weights=true'],
  ['kasa_config', 'KaSA changes the base model; train a plain LoRA'],
  ['alora_invocation_tokens', 'activated LoRA is not served; train a plain LoRA'],
  ['arrow_config', 'Arrow routing is not served; merge the experts into one LoRA'],
  ['megatron_config', "Megatron's parallel layers are not served; export a plain LoRA"],
  ['use_qalora', 'QALoRA is not served; train with use_qalora=false'],
  ['use_bdlora', 'block-diagonal LoRA is not served; train a plain LoRA'],
  ['monteclora_config', 'MonteCLoRA is not served; train a plain LoRA'],
  ['velora_config', 'VeLoRA is not served; train a plain LoRA'],
])
