/**
 * Fields that chat and legacy completions share, and how they become a host's request. Bounds of
 * sampling are the protocol's own; which fields there are is said in `request-fields.ts`.
 */
import { z } from 'zod'
import { CHOICES_MAX, type GenerateRequest, type SamplingOptions, samplingOptions } from '#protocol'
import { unsupported } from '../errors.ts'
import { checkFields } from './field-rules.ts'
import { responseFormat } from './output-format.ts'
import {
  JSON_SCHEMA_FIELDS,
  RESPONSE_FORMAT_FIELDS,
  STREAM_OPTIONS_FIELDS,
} from './request-fields.ts'

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
  /** The reply names the tier that served it, as the client named one. */
  readonly withTier: boolean
  /** Tools whose calls are read out of the answer; null = it is text. */
  readonly callable: ReadonlySet<string> | null
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
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
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
  // They only say whose answer it is, so one that is no text is none.
  prompt_cache_key: z.string().nullish().catch(null),
  safety_identifier: z.string().nullish().catch(null),
  user: z.string().nullish().catch(null),
}

const callSchema = z.object(callFields)
type CallFields = z.infer<typeof callSchema>

/** `top_p: 0` is allowed by OpenAI: only the likeliest token is left. */
const TOP_P_MIN = 1e-6

/** @param grammar that the answer is held to; null = none. */
export function toSampling(fields: CallFields, grammar: string | null): SamplingOptions {
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
    grammar,
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

/** Throws for what is inside of the fields that both kinds have, and is not served. */
export function checkOptions({ stream, stream_options, response_format }: CallFields): void {
  if (stream_options != null && stream !== true) {
    throw unsupported('stream_options', 'It needs "stream": true.')
  }
  checkFields(stream_options, STREAM_OPTIONS_FIELDS, 'stream_options.')
  checkFields(response_format, RESPONSE_FORMAT_FIELDS, 'response_format.')
  if (response_format?.type !== 'json_schema') return
  checkFields(response_format.json_schema, JSON_SCHEMA_FIELDS, 'response_format.json_schema.')
}
