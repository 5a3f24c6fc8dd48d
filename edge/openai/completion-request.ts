/** Body of POST …/completions (legacy: plain text or tokens): unknown in, a Call out. */
import { z } from 'zod'
import type { GenerateRequest } from '#protocol'
import { unsupported } from '../errors.ts'
import { parseValue } from '../read-body.ts'
import {
  type Call,
  callFields,
  checkOptions,
  toAffinity,
  tokenLimit,
  toSampling,
  toStop,
} from './call-fields.ts'
import { checkFields } from './field-rules.ts'
import { toGrammar } from './output-format.ts'
import { COMPLETION_FIELDS } from './request-fields.ts'

/** OpenAI's default here, unlike that of chat. */
const MAX_TOKENS_DEFAULT = 16

const tokens = z.array(z.int().min(0)).min(1)

export const completionBody = z.object({
  ...callFields,
  prompt: z.union([z.string(), tokens, z.array(z.string()).min(1), z.array(tokens).min(1)]),
  max_tokens: tokenLimit,
  logprobs: z.int().min(0).max(5).nullish(),
  best_of: callFields.n,
})

/** Throws `invalid_request` or `unsupported_parameter`, naming the field. */
export function parseCompletionRequest(body: unknown): Call {
  checkFields(body, COMPLETION_FIELDS)
  const fields = parseValue(completionBody, body)
  checkOptions(fields)
  const n = fields.n ?? 1
  if ((fields.best_of ?? n) !== n) {
    throw unsupported('best_of', 'It must equal "n": all choices that are made are sent.')
  }
  return {
    model: fields.model ?? null,
    isStream: fields.stream ?? false,
    withUsage: fields.stream_options?.include_usage ?? false,
    affinity: toAffinity(fields),
    withTier: false,
    callable: null,
    generate: {
      input: toInput(fields.prompt),
      sampling: toSampling(fields, toGrammar(fields.response_format, fields.grammar)),
      n,
      max_tokens: fields.max_tokens ?? MAX_TOKENS_DEFAULT,
      stop: toStop(fields.stop),
      ignore_eos: fields.ignore_eos ?? false,
      logprobs: fields.logprobs != null,
      top_logprobs: fields.logprobs ?? 0,
    },
  }
}

function toInput(prompt: z.infer<typeof completionBody>['prompt']): GenerateRequest['input'] {
  if (typeof prompt === 'string') return { kind: 'text', prompt }
  const [first, ...others] = prompt
  if (typeof first === 'number') return { kind: 'tokens', tokens: prompt as number[] }
  if (others.length > 0) throw unsupported('prompt', 'Only 1 prompt per request is served.')
  return typeof first === 'string'
    ? { kind: 'text', prompt: first }
    : { kind: 'tokens', tokens: first ?? [] }
}
