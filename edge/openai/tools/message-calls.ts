/** Calls of tools and their results in the messages of a request. */
import { z } from 'zod'
import { type ChatMessage, chatMessage, TOOLS_MAX, toolCall } from '#wire/chat-input.ts'
import { invalid } from '../../errors.ts'
import { checkFields } from '../field-rules.ts'
import { CALL_FIELDS, CALL_FUNCTION_FIELDS } from '../request-fields.ts'

const { id, name, arguments: given } = toolCall.shape
const callEntry = z.looseObject({
  id,
  type: z.literal('function'),
  function: z.looseObject({ name, arguments: given }),
})

export const messageCallFields = {
  tool_calls: z.array(callEntry).max(TOOLS_MAX).nullish(),
  tool_call_id: chatMessage.shape.tool_call_id.nullable(),
}

const fieldsSchema = z.object({ role: chatMessage.shape.role, ...messageCallFields })
type MessageFields = z.infer<typeof fieldsSchema>

export class MessageCalls {
  /** Id → name of the tool, of all calls so far. */
  readonly #names = new Map<string, string>()

  /**
   * The part of a message that is about calls, and the name of the tool that a result is of.
   * Messages come in their order. Throws `invalid_request`, naming the field.
   *
   * @param where of the message in the body, with a dot at its end.
   */
  read(
    { role, tool_calls: calls, tool_call_id: resultOf }: MessageFields,
    where: string,
  ): Pick<ChatMessage, 'name' | 'tool_calls' | 'tool_call_id'> {
    if (calls != null && calls.length > 0 && role !== 'assistant') {
      throw invalid(`${where}tool_calls`, 'only a message of the role "assistant" calls tools')
    }
    if (resultOf != null && role !== 'tool') {
      throw invalid(
        `${where}tool_call_id`,
        'only a message of the role "tool" is the result of a call',
      )
    }
    if (resultOf == null && role === 'tool' && this.#names.size > 0) {
      throw invalid(
        `${where}tool_call_id`,
        'is needed: the id of the call that this is the result of',
      )
    }
    if (resultOf != null) {
      const name = this.#names.get(resultOf)
      if (name !== undefined) return { name, tool_call_id: resultOf }
      throw invalid(`${where}tool_call_id`, 'no "tool_calls" before it have that id; take theirs')
    }
    if (calls == null || calls.length === 0) return {}
    return {
      tool_calls: calls.map((call, index) => this.#toCall(call, `${where}tool_calls.${index}.`)),
    }
  }

  #toCall(call: z.infer<typeof callEntry>, where: string) {
    checkFields(call, CALL_FIELDS, where)
    checkFields(call.function, CALL_FUNCTION_FIELDS, `${where}function.`)
    const { name, arguments: text } = call.function
    this.#names.set(call.id, name)
    return { id: call.id, name, arguments: text }
  }
}
