/**
 * Chat messages → prompt text, through the base model's own Jinja template. OpenAI's `developer`
 * role is the template's `system`. Rendering reads no files and no network; a template that prints
 * today's date (`strftime_now`) gets it.
 */
import { readFile } from 'node:fs/promises'
import { Template } from '@huggingface/jinja'
import { HostError } from '../errors.ts'
import { errorText } from '../log.ts'
import type { ChatInput, ChatMessage, Tool } from '../wire/chat-input.ts'
import { CALL_OPEN } from '../wire/tool-call-text.ts'
import { noTools, showsTools, TOOL_PROBE, toolField } from './tool-probe.ts'

export interface SpecialTokenTexts {
  /** Empty when the tokenizer adds the token itself. */
  readonly bos: string
  readonly eos: string
}

const QUESTION = { role: 'user', content: 'A question.' } as const
const NO_PARAMETERS = { type: 'object', properties: {} }

export type ChatMessages = Pick<ChatInput, 'messages' | 'tools'>
export type RenderChat = (chat: ChatMessages) => string

/**
 * Compiles the template once. A base model without one, or with one that cannot be parsed, still
 * serves text completions: only chat is refused, with `invalid_request`; and so are tools, where
 * the template does not know them.
 *
 * @param isWritable whether a text shows in what the model writes: control tokens do not.
 */
export function createChatTemplate(
  source: string | null,
  special: SpecialTokenTexts,
  isWritable: (text: string) => boolean = () => true,
): RenderChat {
  if (source === null) return refuseChat('this base model has no chat template')
  const template = parseTemplate(source)
  if (template instanceof Error) {
    return refuseChat('the chat template of this base model is not usable', template)
  }
  const render = (chat: ChatMessages): string => renderTemplate(template, special, chat)
  const knowsTools = isWritable(CALL_OPEN) && tellsTools(render)
  return (chat) => {
    const field = knowsTools ? null : toolField(chat)
    if (field !== null) throw noTools(field)
    return render(chat)
  }
}

function refuseChat(why: string, cause?: Error): RenderChat {
  return () => {
    throw new HostError('invalid_request', why, { param: 'messages', cause })
  }
}

function renderTemplate(
  template: Template,
  special: SpecialTokenTexts,
  { messages, tools }: ChatMessages,
): string {
  try {
    return template.render({
      messages: messages.map(toTemplateMessage),
      ...(tools !== undefined && { tools: tools.map(toTemplateTool) }),
      add_generation_prompt: true,
      bos_token: special.bos,
      eos_token: special.eos,
    })
  } catch (error) {
    // Templates refuse what they cannot say (`raise_exception`); their words help the caller.
    const reason = error instanceof Error ? error.message : 'unknown reason'
    throw new HostError('invalid_request', `the chat template refuses: ${reason}`, {
      param: 'messages',
    })
  }
}

function tellsTools(render: RenderChat): boolean {
  try {
    return showsTools(render(TOOL_PROBE))
  } catch {
    return false
  }
}

/**
 * A template that shows a question, at the least. Throws `invalid_request`, naming the setting that
 * named the file.
 */
export async function readChatTemplate(path: string): Promise<string> {
  const refusal = (why: string): HostError =>
    new HostError('invalid_request', `NOZZLE_CHAT_TEMPLATE: ${path}: ${why}`)
  const source = await readFile(path, 'utf8').catch((error: unknown) => {
    throw refusal(errorText(error))
  })
  const template = parseTemplate(source)
  if (template instanceof Error) throw refusal(`not a Jinja template: ${template.message}`)
  let prompt = ''
  try {
    prompt = renderTemplate(template, { bos: '', eos: '' }, { messages: [QUESTION] })
  } catch (error) {
    throw refusal(errorText(error))
  }
  if (prompt.includes(QUESTION.content)) return source
  throw refusal('it does not show what a user says')
}

function parseTemplate(source: string): Template | Error {
  try {
    return new Template(source)
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** As the authors of templates know them: what OpenAI calls `arguments` is an object here. */
function toTemplateMessage({ role, tool_calls: calls, ...rest }: ChatMessage) {
  return {
    ...rest,
    role: role === 'developer' ? 'system' : role,
    ...(calls !== undefined && {
      tool_calls: calls.map(({ id, name, arguments: given }) => {
        return { id, type: 'function', function: { name, arguments: JSON.parse(given) } }
      }),
    }),
  }
}

/** As OpenAI writes it, which templates show. */
export function toTemplateTool({ name, description, parameters = NO_PARAMETERS }: Tool) {
  return {
    type: 'function',
    function: { name, ...(description !== undefined && { description }), parameters },
  }
}
