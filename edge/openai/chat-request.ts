/** Body of POST …/chat/completions: unknown in, a Call out. */
import { z } from 'zod'
import { type ChatMessage, chatMessage } from '#protocol'
import { unsupported } from '../errors.ts'
import { parseValue } from '../read-body.ts'
import {
  type Call,
  callFields,
  isEmpty,
  isOneOf,
  isUnset,
  type RefusedFields,
  refuseFields,
  toAffinity,
  tokenLimit,
  toSampling,
  toStop,
} from './call-fields.ts'

const NO_TOOLS = 'Tools are not served yet.'
const TEXT_ONLY = 'Only text is served.'

const REFUSED: RefusedFields = {
  tools: { isHarmless: isEmpty, why: NO_TOOLS },
  functions: { isHarmless: isEmpty, why: NO_TOOLS },
  tool_choice: { isHarmless: isOneOf('none', 'auto'), why: NO_TOOLS },
  function_call: { isHarmless: isOneOf('none', 'auto'), why: NO_TOOLS },
  web_search_options: { isHarmless: isUnset, why: NO_TOOLS },
  audio: { isHarmless: isUnset, why: TEXT_ONLY },
  modalities: {
    isHarmless: (value) => isUnset(value) || JSON.stringify(value) === '["text"]',
    why: TEXT_ONLY,
  },
}

const contentPart = z.looseObject({ type: z.string(), text: z.string().optional() })
const message = z.object({
  role: chatMessage.shape.role,
  content: z.union([z.string(), z.array(contentPart).min(1)]).nullish(),
  name: chatMessage.shape.name.nullable(),
  tool_calls: z.unknown().optional(),
  function_call: z.unknown().optional(),
})

const chatBody = z.object({
  ...callFields,
  messages: z.array(message).min(1).max(2048),
  max_tokens: tokenLimit,
  max_completion_tokens: tokenLimit,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
})
type ChatBody = z.infer<typeof chatBody>

/** Throws `invalid_request` or `unsupported_parameter`, naming the field. */
export function parseChatRequest(body: unknown): Call {
  refuseFields(body, REFUSED)
  const fields = parseValue(chatBody, body)
  const topLogprobs = fields.top_logprobs ?? 0
  if (topLogprobs > 0 && fields.logprobs !== true) {
    throw unsupported('top_logprobs', 'It needs "logprobs": true.')
  }
  return {
    model: fields.model ?? null,
    isStream: fields.stream ?? false,
    withUsage: fields.stream_options?.include_usage ?? false,
    affinity: toAffinity(fields),
    generate: {
      input: { kind: 'chat', messages: fields.messages.map(toMessage) },
      sampling: toSampling(fields),
      n: fields.n ?? 1,
      max_tokens: fields.max_completion_tokens ?? fields.max_tokens ?? null,
      stop: toStop(fields.stop),
      ignore_eos: fields.ignore_eos ?? false,
      logprobs: fields.logprobs ?? false,
      top_logprobs: topLogprobs,
    },
  }
}

function toMessage(message: ChatBody['messages'][number], index: number): ChatMessage {
  const where = `messages.${index}`
  if (!isEmpty(message.tool_calls)) throw unsupported(`${where}.tool_calls`, NO_TOOLS)
  if (!isEmpty(message.function_call)) throw unsupported(`${where}.function_call`, NO_TOOLS)
  const { role, name } = message
  const content = toText(message.content, `${where}.content`)
  return name == null ? { role, content } : { role, content, name }
}

/** Parts are joined by a line break, as the models' own servers do. */
function toText(content: ChatBody['messages'][number]['content'], where: string): string {
  if (content == null) return ''
  if (typeof content === 'string') return content
  return content
    .map((part, index) => {
      if (part.type === 'text' && part.text !== undefined) return part.text
      throw unsupported(`${where}.${index}.type`, TEXT_ONLY)
    })
    .join('\n')
}
