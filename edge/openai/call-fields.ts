/**
 * Fields that chat and legacy completions share, and how they become a host's request. A field that
 * would change the answer and cannot be honoured is refused by name; one that would not is ignored.
 * Bounds of sampling are the protocol's own.
 */
import { z } from 'zod'
import { CHOICES_MAX, type GenerateRequest, type SamplingOptions, samplingOptions } from '#protocol'
import { unsupported } from '../errors.ts'
import { responseFormat, toGrammar } from './output-format.ts'

/** The part of a host's request that the body decides. */
export type GenerateFields = Pick<
  GenerateRequest,
  'input' | 'sampling' | 'n' | 'max_tokens' | 'stop' | 'ignore_eos' | 'logprobs' | 'top_logprobs'
>

export interface Call {
  /** As the client wrote it; null = left to the endpoint. */
  readonly model: string | null
  readonly isStream: boolean
  /** The stream ends with a chunk of usage. */
  readonly withUsage: boolean
  /** What the client calls its conversation or its user; null = neither. */
  readonly affinity: string | null
  readonly generate: GenerateFields
}

const { shape } = samplingOptions
/** Of a client's own grammar. */
const GRAMMAR_CHARACTERS_MAX = 65_536
const STOP_MAX = 4
const stopText = z.string().min(1).max(256)

export const tokenLimit = z.int().min(1).nullish()

export const callFields = {
  model: z.string().min(1).max(300).nullish(),
  n: z.int().min(1).max(CHOICES_MAX).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  stop: z.union([stopText, z.array(stopText).max(STOP_MAX)]).nullish(),
  seed: z.int().nullish(),
  temperature: shape.temperature.unwrap().nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  frequency_penalty: shape.frequency_penalty.unwrap().nullish(),
  presence_penalty: shape.presence_penalty.unwrap().nullish(),
  logit_bias: shape.logit_bias.unwrap().nullish(),
  // Extensions, by the names that other servers gave them.
  top_k: z.int().min(-1).max(1000).nullish(),
  min_p: shape.min_p.unwrap().nullish(),
  repetition_penalty: shape.repetition_penalty.unwrap().nullish(),
  grammar: z.string().max(GRAMMAR_CHARACTERS_MAX).nullish(),
  response_format: responseFormat.nullish(),
  ignore_eos: z.boolean().nullish(),
  // They change no answer, so whatever else they hold is ignored.
  prompt_cache_key: z.string().nullish().catch(null),
  safety_identifier: z.string().nullish().catch(null),
  user: z.string().nullish().catch(null),
}

const callSchema = z.object(callFields)
type CallFields = z.infer<typeof callSchema>

/** `top_p: 0` is allowed by OpenAI: only the likeliest token is left. */
const TOP_P_MIN = 1e-6

export function toSampling(fields: CallFields): SamplingOptions {
  return samplingOptions.parse({
    temperature: fields.temperature ?? undefined,
    top_p: fields.top_p == null ? undefined : Math.max(fields.top_p, TOP_P_MIN),
    top_k: Math.max(fields.top_k ?? 0, 0),
    min_p: fields.min_p ?? undefined,
    frequency_penalty: fields.frequency_penalty ?? undefined,
    presence_penalty: fields.presence_penalty ?? undefined,
    repetition_penalty: fields.repetition_penalty ?? undefined,
    // OpenAI's seeds are 64 bits and may be negative; the host's are 32.
    seed: fields.seed == null ? null : Number(BigInt.asUintN(32, BigInt(fields.seed))),
    logit_bias: fields.logit_bias ?? undefined,
    grammar: toGrammar(fields.response_format, fields.grammar),
  })
}

/** The narrowest name that the client gave. */
export function toAffinity(fields: CallFields): string | null {
  return fields.prompt_cache_key || fields.safety_identifier || fields.user || null
}

export function toStop(stop: CallFields['stop']): string[] {
  if (stop == null) return []
  return typeof stop === 'string' ? [stop] : stop
}

/** What a field may be without being used. */
export const isUnset = (value: unknown): boolean => value === undefined || value === null
export const isEmpty = (value: unknown): boolean =>
  isUnset(value) || (Array.isArray(value) && value.length === 0)
export const isOneOf =
  (...allowed: readonly unknown[]) =>
  (value: unknown): boolean =>
    isUnset(value) || allowed.includes(value)

export type RefusedFields = Readonly<
  Record<string, { readonly isHarmless: (value: unknown) => boolean; readonly why: string }>
>

const NOT_SERVED = 'It is not served.'
const USE_FORMAT = 'Use "response_format", or a "grammar" in GBNF.'

/** Fields of other servers that would change the answer, each with what leaves it as it is. */
const REFUSED_EVERYWHERE: RefusedFields = {
  guided_json: { isHarmless: isUnset, why: USE_FORMAT },
  guided_regex: { isHarmless: isUnset, why: USE_FORMAT },
  guided_choice: { isHarmless: isUnset, why: USE_FORMAT },
  guided_grammar: { isHarmless: isUnset, why: USE_FORMAT },
  structured_outputs: { isHarmless: isUnset, why: USE_FORMAT },
  json_schema: { isHarmless: isUnset, why: USE_FORMAT },
  min_tokens: { isHarmless: isOneOf(0), why: NOT_SERVED },
  stop_token_ids: { isHarmless: isEmpty, why: 'Use "stop".' },
  bad_words: { isHarmless: isEmpty, why: 'Use "logit_bias".' },
  allowed_token_ids: { isHarmless: isEmpty, why: 'Use a "grammar".' },
  use_beam_search: { isHarmless: isOneOf(false), why: NOT_SERVED },
  length_penalty: { isHarmless: isOneOf(1), why: NOT_SERVED },
  typical_p: { isHarmless: isOneOf(1), why: 'Use "min_p" or "top_p".' },
  mirostat: { isHarmless: isOneOf(0), why: 'Use "min_p" or "top_p".' },
  dry_multiplier: { isHarmless: isOneOf(0), why: 'Use "repetition_penalty".' },
  xtc_probability: { isHarmless: isOneOf(0), why: NOT_SERVED },
  prompt_logprobs: { isHarmless: isUnset, why: 'Log probabilities are of the answer alone.' },
  truncate_prompt_tokens: { isHarmless: isUnset, why: 'Shorten the prompt.' },
  chat_template: { isHarmless: isUnset, why: "The model's own is used." },
  chat_template_kwargs: { isHarmless: isUnset, why: "The model's own template is used as it is." },
  continue_final_message: { isHarmless: isOneOf(false), why: NOT_SERVED },
}

/** Throws `unsupported_parameter` for the first field that cannot be honoured. */
export function refuseFields(body: unknown, refused: RefusedFields): void {
  if (typeof body !== 'object' || body === null) return
  const rules = { ...REFUSED_EVERYWHERE, ...refused }
  for (const [param, value] of Object.entries(body)) {
    const rule = Object.hasOwn(rules, param) ? rules[param] : undefined
    if (rule === undefined || rule.isHarmless(value)) continue
    throw unsupported(param, rule.why)
  }
}
