/**
 * Tool calls as models write them, in the form of the Hermes models, which Qwen's and others
 * follow: `<tool_call>` and `</tool_call>` around a JSON object `{"name": …, "arguments": {…}}`.
 * Source: the chat templates of those models.
 */

export const CALL_OPEN = '<tool_call>'
export const CALL_CLOSE = '</tool_call>'

export interface ToolCallText {
  readonly name: string
  /** JSON of an object, as it was written: no number has lost a digit. */
  readonly arguments: string
}

/** What stands between the two marks → the call; null = it is none. */
export function readToolCall(json: string): ToolCallText | null {
  const members = toMembers(json)
  if (members === null) return null
  const name = members.get('name')
  const given = members.get('arguments') ?? 'null'
  if (name === undefined || !name.startsWith('"')) return null
  if (given !== 'null' && !given.startsWith('{')) return null
  return { name: JSON.parse(name), arguments: given === 'null' ? '{}' : given }
}

/** Name → text of each member; null = no JSON object. */
function toMembers(json: string): Map<string, string> | null {
  const text = json.trim()
  if (!text.startsWith('{') || !isJson(text)) return null
  const members = new Map<string, string>()
  const nesting = new JsonNesting()
  let begin = 1
  let name = ''
  for (let at = 0; at < text.length; at++) {
    const sign = text[at] ?? ''
    const { depth } = nesting
    nesting.take(sign)
    if (depth !== 1 || nesting.isInString) continue
    if (sign === ':') name = JSON.parse(text.slice(begin, at))
    else if (sign === ',' || sign === '}') members.set(name, text.slice(begin, at).trim())
    else continue
    begin = at + 1
  }
  return members
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** How deep in JSON the next sign stands. */
export class JsonNesting {
  depth = 0
  isInString = false
  #isEscaped = false

  take(sign: string): void {
    if (this.isInString) {
      if (this.#isEscaped) this.#isEscaped = false
      else if (sign === '\\') this.#isEscaped = true
      else if (sign === '"') this.isInString = false
    } else if (sign === '"') this.isInString = true
    else if (sign === '{' || sign === '[') this.depth += 1
    else if (sign === '}' || sign === ']') this.depth -= 1
  }
}
