/**
 * Whether a base can be given tools: its chat template is asked to show one, a call of it, and what
 * came back. What it knows nothing of it leaves out, and a form of calls that is not the one of
 * wire/tool-call-text.ts could not be read from an answer.
 */
import { HostError } from '../errors.ts'
import type { ChatInput } from '../wire/chat-input.ts'
import { CALL_CLOSE, CALL_OPEN, readToolCall } from '../wire/tool-call-text.ts'

const TOOL = 'nozzle_probe'
const ARGUMENT = 'probed_argument'
const RESULT = 'probed result'
const CALL = { id: 'call_probe', name: TOOL, arguments: `{"${ARGUMENT}": "x"}` }

export const TOOL_PROBE: ChatInput = {
  kind: 'chat',
  messages: [
    { role: 'user', content: 'Probe.' },
    { role: 'assistant', content: '', tool_calls: [CALL] },
    { role: 'tool', content: RESULT, name: TOOL, tool_call_id: CALL.id },
  ],
  tools: [
    {
      name: TOOL,
      description: 'Probes.',
      parameters: {
        type: 'object',
        properties: { [ARGUMENT]: { type: 'string', description: 'Any text.' } },
      },
    },
  ],
}

/** @param prompt the text that the probe was rendered to. */
export function showsTools(prompt: string): boolean {
  if (!prompt.includes(RESULT)) return false
  const calls = prompt.split(CALL_OPEN).slice(1).flatMap(toCalls)
  const isShown = prompt.split(`"${TOOL}"`).length > 2
  return isShown && calls.some((call) => call.name === TOOL && isProbed(call.arguments))
}

function toCalls(text: string) {
  const call = readToolCall(text.split(CALL_CLOSE)[0] ?? '')
  return call === null ? [] : [call]
}

function isProbed(text: string): boolean {
  const given: unknown = JSON.parse(text)
  return typeof given === 'object' && given !== null && ARGUMENT in given
}

/** Whether the input has to do with tools; the field by which it does. */
export function toolField({
  messages,
  tools,
}: Pick<ChatInput, 'messages' | 'tools'>): string | null {
  if (tools !== undefined) return 'tools'
  const index = messages.findIndex(({ tool_calls: calls }) => calls !== undefined)
  return index < 0 ? null : `messages.${index}.tool_calls`
}

export function noTools(param: string): HostError {
  const message =
    "the chat template of this base model shows no tools, or not in Hermes' form (<tool_call>), " +
    'the one that is served (docs/tools.md): describe them in a message and use "response_format"'
  return new HostError('invalid_request', message, { param })
}
