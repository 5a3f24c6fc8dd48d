/** The fields of a chat request by which it offers tools → what host and reply need of them. */
import { z } from 'zod'
import { TOOLS_MAX, type Tool, toolName } from '#wire/chat-input.ts'
import { invalid, unsupported } from '../../errors.ts'
import { checkFields } from '../field-rules.ts'
import { addFormatRule, type ResponseFormat } from '../output-format.ts'
import {
  TOOL_CHOICE_FIELDS,
  TOOL_CHOICE_FUNCTION_FIELDS,
  TOOL_FIELDS,
  TOOL_FUNCTION_FIELDS,
} from '../request-fields.ts'
import { type GrammarTool, toolGrammar } from './tool-grammar.ts'

const toolEntry = z.looseObject({
  type: z.literal('function', { error: 'must be "function"' }),
  function: z.looseObject({
    name: toolName,
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
})
const namedChoice = z.looseObject({
  type: z.literal('function'),
  function: z.looseObject({ name: toolName }),
})

const CHOICES =
  'must be "none", "auto", "required" or {"type": "function", "function": {"name": "…"}}'

export const toolFields = {
  tools: z.array(toolEntry).max(TOOLS_MAX).nullish(),
  tool_choice: z
    .union([z.enum(['none', 'auto', 'required']), namedChoice], { error: CHOICES })
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
}

const toolFieldsSchema = z.object(toolFields)
type ToolFields = z.infer<typeof toolFieldsSchema>

export interface ToolUse {
  /** As the model is shown them; at least one. */
  readonly tools: Tool[]
  /** Tools whose calls are read out of the answer. */
  readonly callable: ReadonlySet<string>
  /** null = text and calls as the model likes. */
  readonly grammar: string | null
}

interface OutputFields {
  readonly response_format?: ResponseFormat | null | undefined
  readonly grammar?: string | null | undefined
}

/**
 * Of a body that nothing is known of yet: throws for what is inside of its tools and is not served,
 * so that a kind of tool that is refused is refused by its own name.
 */
export function checkToolFields(body: object): void {
  const { tools, tool_choice: choice } = body as { tools?: unknown; tool_choice?: unknown }
  for (const [index, entry] of (Array.isArray(tools) ? tools : []).entries()) {
    checkFields(entry, TOOL_FIELDS, `tools.${index}.`)
    checkFields(entry?.function, TOOL_FUNCTION_FIELDS, `tools.${index}.function.`)
  }
  checkFields(choice, TOOL_CHOICE_FIELDS, 'tool_choice.')
  if (typeof choice !== 'object' || choice === null || !('function' in choice)) return
  checkFields(choice.function, TOOL_CHOICE_FUNCTION_FIELDS, 'tool_choice.function.')
}

/** null = no tool is offered. Throws, naming the field. */
export function toToolUse(fields: ToolFields & OutputFields): ToolUse | null {
  const entries = (fields.tools ?? []).map(toEntry)
  const names = checkedNames(entries)
  const choice = toChoice(fields.tool_choice, names)
  if (entries.length === 0 || choice.mode === 'none') return null
  if (fields.grammar != null) throw unsupported('grammar', 'It excludes "tools".')
  const wanted = entries.filter(({ tool }) => choice.name === null || choice.name === tool.name)
  const isForced = choice.mode === 'required'
  const isParallel = fields.parallel_tool_calls !== false && choice.name === null
  const addFormat = addFormatRule(fields.response_format)
  const isFree = !isForced && isParallel && addFormat === null
  const tools = wanted.map(({ grammarTool }) => grammarTool)
  return {
    tools: entries.map(({ tool }) => tool),
    callable: new Set(wanted.map(({ tool }) => tool.name)),
    grammar:
      isFree && tools.every(({ isStrict }) => !isStrict)
        ? null
        : toolGrammar({ tools, isForced, isParallel, addFormat }),
  }
}

interface Entry {
  readonly tool: Tool
  readonly grammarTool: GrammarTool
}

function toEntry(entry: NonNullable<ToolFields['tools']>[number], index: number): Entry {
  const where = `tools.${index}`
  const { name, description, strict } = entry.function
  const path = `${where}.function.parameters`
  const parameters = toParameters(entry.function.parameters, path)
  return {
    tool: { name, ...(description != null && { description }), ...(parameters && { parameters }) },
    grammarTool: { name, parameters, isStrict: strict ?? false, path },
  }
}

/** null = none: as an absent schema, an empty one says nothing of any. */
function toParameters(
  given: Record<string, unknown> | null | undefined,
  path: string,
): Record<string, unknown> | null {
  if (given == null || Object.keys(given).length === 0) return null
  if (given.type === 'object') return given
  throw invalid(`${path}.type`, 'must be "object": arguments are the members of one')
}

function checkedNames(entries: readonly Entry[]): ReadonlySet<string> {
  const names = new Set<string>()
  for (const [index, { tool }] of entries.entries()) {
    if (names.has(tool.name)) {
      const param = `tools.${index}.function.name`
      throw invalid(param, 'a tool before it has that name; give it one of its own')
    }
    names.add(tool.name)
  }
  return names
}

interface Choice {
  readonly mode: 'none' | 'auto' | 'required'
  /** The one tool that must be called; null = any of them. */
  readonly name: string | null
}

function toChoice(choice: ToolFields['tool_choice'], names: ReadonlySet<string>): Choice {
  if (choice == null || typeof choice === 'string') {
    if (choice === 'required' && names.size === 0) {
      throw invalid('tool_choice', '"required" needs "tools"')
    }
    return { mode: choice ?? 'auto', name: null }
  }
  const { name } = choice.function
  if (names.has(name)) return { mode: 'required', name }
  throw invalid(
    'tool_choice.function.name',
    '"tools" has no function of that name; name one of them',
  )
}
