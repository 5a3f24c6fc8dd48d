/**
 * Chat messages → prompt text, through the base model's own Jinja template. OpenAI's `developer`
 * role is the template's `system`. Rendering reads no files and no network; a template that prints
 * today's date (`strftime_now`) gets it.
 */
import { Template } from '@huggingface/jinja'
import { HostError } from '../errors.ts'
import type { ChatMessage } from '../protocol.ts'

export interface SpecialTokenTexts {
  /** Empty when the tokenizer adds the token itself. */
  readonly bos: string
  readonly eos: string
}

export type RenderChat = (messages: readonly ChatMessage[]) => string

/**
 * Compiles the template once. A base model without one, or with one that cannot be parsed, still
 * serves text completions: only chat is refused, with `invalid_request`.
 */
export function createChatTemplate(source: string | null, special: SpecialTokenTexts): RenderChat {
  if (source === null) {
    return () => {
      throw new HostError('invalid_request', 'this base model has no chat template', {
        param: 'messages',
      })
    }
  }
  const template = parseTemplate(source)
  return (messages) => {
    if (template instanceof Error) {
      throw new HostError('invalid_request', 'the chat template of this base model is not usable', {
        param: 'messages',
        cause: template,
      })
    }
    try {
      return template.render({
        messages: messages.map(toTemplateMessage),
        add_generation_prompt: true,
        bos_token: special.bos,
        eos_token: special.eos,
      })
    } catch (error) {
      // Templates refuse what they cannot say (`raise_exception`); their words help the caller.
      const reason = error instanceof Error ? error.message : 'unknown reason'
      throw new HostError('invalid_request', `the chat template refuses: ${reason}`, {
        param: 'messages',
        cause: error,
      })
    }
  }
}

function parseTemplate(source: string): Template | Error {
  try {
    return new Template(source)
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

function toTemplateMessage(message: ChatMessage): Record<string, unknown> {
  const role = message.role === 'developer' ? 'system' : message.role
  return message.name === undefined
    ? { role, content: message.content }
    : { role, content: message.content, name: message.name }
}
