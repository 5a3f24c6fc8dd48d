/** Body of POST …/chat/completions: unknown in, a Call out. */
import { z } from 'zod'
import { type ChatMessage, chatMessage } from '#wire/chat-input.ts'
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
import { CHAT_FIELDS, CONTENT_PART_FIELDS, MESSAGE_FIELDS } from './request-fields.ts'
import { MessageCalls, messageCallFields } from './tools/message-calls.ts'
import { checkToolFields, toolFields, toToolUse } from './tools/tool-use.ts'

const SERVICE_TIERS = ['auto', 'default'] as const

const contentPart = z.looseObject({ type: z.string(), text: z.string().nullish() })
const message = z.looseObject({
  role: chatMessage.shape.role,
  content: z.union([z.string(), z.array(contentPart).min(1)]).nullish(),
  name: chatMessage.shape.name.nullable(),
  ...messageCallFields,
})

export const chatBody = z.object({
  ...callFields,
  messages: z.array(message).min(1).max(2048),
  max_tokens: tokenLimit,
  max_completion_tokens: tokenLimit,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  service_tier: z.enum(SERVICE_TIERS).nullish(),
  ...toolFields,
})
type ChatBody = z.infer<typeof chatBody>

/** Throws `invalid_request` or `unsupported_parameter`, naming the field. */
export function parseChatRequest(body: unknown): Call {
  checkFields(body, CHAT_FIELDS)
  if (typeof body === 'object' && body !== null) checkToolFields(body)
  const fields = parseValue(chatBody, body)
  checkOptions(fields)
  const topLogprobs = fields.top_logprobs ?? 0
  if (topLogprobs > 0 && fields.logprobs !== true) {
    throw unsupported('top_logprobs', 'It needs "logprobs": true.')
  }
  const toolUse = toToolUse(fields)
  const grammar =
    toolUse === null ? toGrammar(fields.response_format, fields.grammar) : toolUse.grammar
  const calls = new MessageCalls()
  const messages = fields.messages.map((each, index) =>
    toMessage(each, `messages.${index}.`, calls),
  )
  return {
    model: fields.model ?? null,
    isStream: fields.stream ?? false,
    withUsage: fields.stream_options?.include_usage ?? false,
    affinity: toAffinity(fields),
    withTier: fields.service_tier != null,
    callable: toolUse?.callable ?? null,
    generate: {
      input: { kind: 'chat', messages, ...(toolUse && { tools: toolUse.tools }) },
      sampling: toSampling(fields, grammar),
      n: fields.n ?? 1,
      max_tokens: fields.max_completion_tokens ?? fields.max_tokens ?? null,
      stop: toStop(fields.stop),
      ignore_eos: fields.ignore_eos ?? false,
      logprobs: fields.logprobs ?? false,
      top_logprobs: topLogprobs,
    },
  }
}

function toMessage(
  message: ChatBody['messages'][number],
  where: string,
  calls: MessageCalls,
): ChatMessage {
  checkFields(message, MESSAGE_FIELDS, where)
  const { role, name } = message
  const content = toText(message.content, `${where}content`)
  return { role, content, ...calls.read(message, where), ...(name != null && { name }) }
}

/** Parts are joined by a line break, as the models' own servers do. */
function toText(content: ChatBody['messages'][number]['content'], where: string): string {
  if (content == null) return ''
  if (typeof content === 'string') return content
  return content
    .map((part, index) => {
      checkFields(part, CONTENT_PART_FIELDS, `${where}.${index}.`)
      if (part.type === 'text' && part.text != null) return part.text
      throw unsupported(`${where}.${index}.type`, 'Only text is served.')
    })
    .join('\n')
}
