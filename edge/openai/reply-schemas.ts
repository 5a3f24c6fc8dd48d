/**
 * The replies of OpenAI's routes, to the field: what the API reference shows, and what tests hold
 * every real reply against. Objects are strict, so a field that is sent and not here is a failure.
 */
import { z } from 'zod'
import { EDGE_ERRORS, type EdgeErrorCode } from '../errors.ts'

const count = z.int().min(0)
const unixSeconds = z.int().min(0).describe('Unix seconds.')
const finishReason = z.enum(['stop', 'length'])
const chatFinishReason = z
  .enum([...finishReason.options, 'tool_calls'])
  .describe('tool_calls: the answer ended by itself, and holds calls.')
const toolCall = z.strictObject({
  id: z.string().startsWith('call_'),
  type: z.literal('function'),
  function: z.strictObject({
    name: z.string().describe('Of a tool of the request.'),
    arguments: z.string().describe('JSON of an object.'),
  }),
})

const usage = z.strictObject({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.strictObject({
    cached_tokens: count.describe('Part of prompt_tokens, at the price of cached ones.'),
  }),
})

const tokenLogprob = z.strictObject({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)),
})
const logprobs = z
  .strictObject({
    content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
    refusal: z.null(),
  })
  .nullable()

/** Only where the request named a tier. */
const serviceTier = z.literal('default').optional()

export const chatReply = z.strictObject({
  id: z.string().startsWith('chatcmpl-'),
  object: z.literal('chat.completion'),
  created: unixSeconds,
  model: z.string().describe('As the request named it.'),
  service_tier: serviceTier,
  choices: z.array(
    z.strictObject({
      index: count,
      message: z.strictObject({
        role: z.literal('assistant'),
        content: z.string().nullable().describe('null = nothing but calls.'),
        refusal: z.null(),
        tool_calls: z.array(toolCall).min(1).optional(),
      }),
      logprobs,
      finish_reason: chatFinishReason,
    }),
  ),
  usage,
})

export const chatChunk = z.strictObject({
  id: z.string().startsWith('chatcmpl-'),
  object: z.literal('chat.completion.chunk'),
  created: unixSeconds,
  model: z.string(),
  service_tier: serviceTier,
  choices: z.array(
    z.strictObject({
      index: count,
      delta: z.strictObject({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        refusal: z.null().optional(),
        tool_calls: z
          .array(toolCall.extend({ index: count.describe('Of the call in its choice.') }))
          .min(1)
          .optional()
          .describe('Each call comes whole, in one chunk.'),
      }),
      logprobs,
      finish_reason: chatFinishReason.nullable(),
    }),
  ),
  usage: usage.nullish().describe('With include_usage: null, but for the last chunk.'),
})

const columns = z
  .strictObject({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number()),
    top_logprobs: z.array(z.record(z.string(), z.number())),
    text_offset: z.array(count),
  })
  .nullable()

const completionHead = {
  id: z.string().startsWith('cmpl-'),
  object: z.literal('text_completion'),
  created: unixSeconds,
  model: z.string(),
}
const completionChoice = z.strictObject({
  index: count,
  text: z.string(),
  logprobs: columns,
  finish_reason: finishReason,
})

export const completionReply = z.strictObject({
  ...completionHead,
  choices: z.array(completionChoice),
  usage,
})

export const completionChunk = z.strictObject({
  ...completionHead,
  choices: z.array(completionChoice.extend({ finish_reason: finishReason.nullable() })),
  usage: usage.nullish().describe('With include_usage: null, but for the last chunk.'),
})

export const modelReply = z.strictObject({
  id: z.string(),
  object: z.literal('model'),
  created: unixSeconds,
  owned_by: z.string().describe('The tenant, or "nozzle" for a base model.'),
  parent: z.string().nullable().describe('The base model; null = it is one.'),
  root: z.string().nullable().describe('Digest of the deployed adapter version.'),
  max_model_len: z.int().nullable().describe("Context of the pool's smallest host, in tokens."),
})

export const modelListReply = z.strictObject({
  object: z.literal('list'),
  data: z.array(modelReply),
})

const isErrorCode = (code: string): code is EdgeErrorCode => Object.hasOwn(EDGE_ERRORS, code)

export const errorReply = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.enum([...new Set(Object.values(EDGE_ERRORS).map(({ type }) => type))]),
    param: z.string().nullable().describe('The field at fault.'),
    code: z.enum(Object.keys(EDGE_ERRORS).filter(isErrorCode)),
  }),
})
