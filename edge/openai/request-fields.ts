/**
 * Every field that a request's body may hold, and what becomes of it: OpenAI's own, those of other
 * servers of open models, and no others. The one source of truth: parsers refuse by it, and
 * `docs/openai-conformance.md` is written from it. Names that end in `[]` are lists.
 */
import { type FieldRules, idle, refused, served } from './field-rules.ts'

const USE_TOOLS = 'Use "tools" and "tool_choice".'
const ONLY_FUNCTIONS = 'Only functions are served.'
const TEXT_ONLY = 'Only text is served.'
const NOT_SERVED = 'It is not served.'
const USE_FORMAT = 'Use "response_format", or a "grammar" in GBNF.'
const NO_REASONING = 'The base models here do not reason in a channel of their own.'

/** Of chat and of legacy completions. */
const SHARED = {
  model: served("may be left out on a model's own endpoint"),
  frequency_penalty: served(),
  logit_bias: served(),
  max_tokens: served(),
  n: served('up to 16'),
  presence_penalty: served(),
  seed: served('64 bits, of which the low 32 count'),
  stop: served('up to 4, of 256 characters each'),
  stream: served(),
  stream_options: served('needs "stream": true'),
  temperature: served(),
  top_p: served(),
  user: served('names whom one version of a canary serves'),
} satisfies FieldRules

/** Of other servers of open models, by the names that those gave them. */
const EXTENSIONS = {
  top_k: served(),
  min_p: served(),
  repetition_penalty: served(),
  grammar: served('GBNF, up to 65,536 characters'),
  ignore_eos: served(),
  guided_json: refused(USE_FORMAT),
  guided_regex: refused(USE_FORMAT),
  guided_choice: refused(USE_FORMAT),
  guided_grammar: refused(USE_FORMAT),
  structured_outputs: refused(USE_FORMAT),
  json_schema: refused(USE_FORMAT),
  min_tokens: refused(NOT_SERVED, 0),
  stop_token_ids: refused('Use "stop".', []),
  bad_words: refused('Use "logit_bias".', []),
  allowed_token_ids: refused('Use a "grammar".', []),
  use_beam_search: refused(NOT_SERVED, false),
  length_penalty: refused(NOT_SERVED, 1),
  typical_p: refused('Use "min_p" or "top_p".', 1),
  mirostat: refused('Use "min_p" or "top_p".', 0),
  dry_multiplier: refused('Use "repetition_penalty".', 0),
  xtc_probability: refused(NOT_SERVED, 0),
  prompt_logprobs: refused('Log probabilities are of the answer alone.'),
  truncate_prompt_tokens: refused('Shorten the prompt.'),
  include_stop_str_in_output: refused('A stop string is never part of the answer.', false),
  skip_special_tokens: refused('They are never part of the answer.', true),
  lora: refused('The adapter is in "model".', []),
  cache_prompt: idle('prompts that share a beginning are cached by themselves'),
} satisfies FieldRules

export const CHAT_FIELDS = {
  ...SHARED,
  messages: served('up to 2,048'),
  max_completion_tokens: served('goes before "max_tokens"'),
  logprobs: served(),
  top_logprobs: served('needs "logprobs": true'),
  response_format: served('a schema holds with and without "strict"'),
  prompt_cache_key: served('names the conversation that one version of a canary serves'),
  safety_identifier: served('names whom one version of a canary serves'),
  service_tier: served('"auto" and "default", which are one; the reply then says "default"'),
  tools: served('up to 128, where the chat template of the base knows them'),
  tool_choice: served('"none", "auto", "required", or one function'),
  parallel_tool_calls: served('false = one call at most'),
  functions: refused(USE_TOOLS, []),
  function_call: refused(USE_TOOLS, 'none', 'auto'),
  web_search_options: refused(NOT_SERVED),
  audio: refused(TEXT_ONLY),
  modalities: refused(TEXT_ONLY, ['text']),
  moderation: refused('Answers are not moderated.'),
  reasoning_effort: refused(NO_REASONING, 'none'),
  verbosity: refused('Say it in a message.', 'medium'),
  store: refused('Completions are not kept: neither prompts nor answers are stored.', false),
  metadata: idle('it labels stored completions, and none are stored'),
  prediction: idle('it makes an answer sooner, never another one'),
  prompt_cache_retention: idle('it is the longest that a prompt may be cached'),
  prompt_cache_options: refused('Prompts are cached by themselves, for no promised time.', {
    mode: 'implicit',
  }),
  ...EXTENSIONS,
  chat_template: refused("The model's own is used."),
  chat_template_kwargs: refused("The model's own template is used as it is.", {}),
  add_generation_prompt: refused('An answer always follows the messages.', true),
  continue_final_message: refused(NOT_SERVED, false),
} satisfies FieldRules

export const COMPLETION_FIELDS = {
  ...SHARED,
  prompt: served('one text, or one list of tokens'),
  logprobs: served('up to 5'),
  best_of: served('equal to "n" alone'),
  echo: refused('The prompt is not repeated.', false),
  suffix: refused('Text is only continued.', ''),
  ...EXTENSIONS,
  response_format: served('as for chat'),
  prompt_cache_key: served('as for chat'),
  safety_identifier: served('as for chat'),
} satisfies FieldRules

export const TOOL_FIELDS = {
  type: served('"function"'),
  function: served(),
  custom: refused(ONLY_FUNCTIONS),
} satisfies FieldRules

export const TOOL_FUNCTION_FIELDS = {
  name: served(),
  description: served(),
  parameters: served('a schema of an object; absent or empty = no arguments'),
  strict: served('with it arguments hold the schema; where a call is required they always do'),
} satisfies FieldRules

export const TOOL_CHOICE_FIELDS = {
  type: served('"function"'),
  function: served(),
  allowed_tools: refused('Leave the others out of "tools".'),
  custom: refused(ONLY_FUNCTIONS),
} satisfies FieldRules

export const TOOL_CHOICE_FUNCTION_FIELDS = {
  name: served('of one of "tools"'),
} satisfies FieldRules

/** Of a message that has calls of tools. */
export const CALL_FIELDS = {
  id: served('what "tool_call_id" of its result names'),
  type: served('"function"'),
  function: served(),
  custom: refused(ONLY_FUNCTIONS),
} satisfies FieldRules

export const CALL_FUNCTION_FIELDS = {
  name: served(),
  arguments: served('JSON of an object'),
  parsed_arguments: idle("OpenAI's SDKs add it to an answer: their reading of its arguments"),
} satisfies FieldRules

export const STREAM_OPTIONS_FIELDS = {
  include_usage: served(),
  include_obfuscation: refused('Chunks are not padded.', false),
  continuous_usage_stats: refused('Usage comes once, in the last chunk.', false),
} satisfies FieldRules

export const MESSAGE_FIELDS = {
  role: served('"system", "developer", "user", "assistant", "tool"'),
  content: served('text, or a list of text parts, which are joined by a line break'),
  name: served("given to the base model's template"),
  tool_calls: served('of an assistant'),
  tool_call_id: served('of a result: the id of a call before it; needed where there are calls'),
  function_call: refused('Use "tool_calls".'),
  parsed: idle("OpenAI's SDKs add it to an answer: their reading of its content"),
  audio: refused(TEXT_ONLY),
  refusal: refused('Say it as "content".', ''),
  annotations: refused(TEXT_ONLY, []),
  reasoning_content: refused(NO_REASONING, ''),
} satisfies FieldRules

export const CONTENT_PART_FIELDS = {
  type: served('"text"'),
  text: served(),
  prompt_cache_breakpoint: idle('prompts that share a beginning are cached at any length'),
  image_url: refused(TEXT_ONLY),
  input_audio: refused(TEXT_ONLY),
  file: refused(TEXT_ONLY),
  refusal: refused(TEXT_ONLY),
} satisfies FieldRules

export const RESPONSE_FORMAT_FIELDS = {
  type: served('"text", "json_object", "json_schema"'),
  json_schema: served('needs "type": "json_schema"'),
  schema: refused('Use "type": "json_schema" and "json_schema".'),
  grammar: refused('Use the field "grammar" of the body.'),
} satisfies FieldRules

export const JSON_SCHEMA_FIELDS = {
  name: served(),
  schema: served('what cannot be held is refused by its path'),
  strict: served(),
  description: idle('a hint to the model, which no template shows; the schema holds all the same'),
} satisfies FieldRules
