/**
 * Tools that an answer may call → GBNF of such answers: text, calls in the form of
 * `#wire/tool-call-text.ts`, or what "response_format" asks for. Arguments of a strict tool hold
 * its schema, and so do all where an answer must be a call.
 */
import { CALL_CLOSE, CALL_OPEN } from '#wire/tool-call-text.ts'
import { GrammarRules, literal } from '../json-schema/grammar-rules.ts'
import { addSchema } from '../json-schema/schema-grammar.ts'

export interface GrammarTool {
  readonly name: string
  /** null = it takes no arguments. */
  readonly parameters: Readonly<Record<string, unknown>> | null
  readonly isStrict: boolean
  /** Of its schema, in errors. */
  readonly path: string
}

export interface ToolGrammarOptions {
  /** At least one. */
  readonly tools: readonly GrammarTool[]
  /** Nothing but calls is an answer. */
  readonly isForced: boolean
  /** An answer may hold several calls. */
  readonly isParallel: boolean
  /** Adds the rule of an answer without calls, and names it; null = any text. */
  readonly addFormat: ((rules: GrammarRules) => string) | null
}

/** Throws `invalid_request` or `unsupported_parameter`, naming the path in a tool's schema. */
export function toolGrammar({
  tools,
  isForced,
  isParallel,
  addFormat,
}: ToolGrammarOptions): string {
  const rules = new GrammarRules('tools')
  const calls = tools.map((tool) => {
    const head = literal(`\n{"name": ${JSON.stringify(tool.name)}, "arguments": `)
    return `${head} ${addArguments(rules, tool, isForced)} ${literal('}\n')}`
  })
  const body = rules.add(`( ${calls.join(' | ')} ) ${literal(CALL_CLOSE)}`)
  const more = isParallel ? ` ( ${literal(`\n${CALL_OPEN}`)} ${body} )*` : ''
  const calling = rules.add(`${body}${more}`)
  const onlyCalls = `${literal(CALL_OPEN)} ${calling}`
  if (isForced) return rules.toText(onlyCalls)
  if (addFormat !== null) return rules.toText(`${onlyCalls} | ${addFormat(rules)}`)
  return rules.toText(addText(rules, calling))
}

function addArguments(rules: GrammarRules, tool: GrammarTool, isForced: boolean): string {
  const { parameters, isStrict, path } = tool
  if (parameters === null) return literal('{}')
  return isStrict || isForced ? addSchema(rules, parameters, path) : 'object'
}

/**
 * Text in which CALL_OPEN does not stand but where calls begin. One rule for each sign of it that
 * was read; its first sign stands nowhere else in it, so after any other sign the search is at its
 * beginning, or behind that first sign.
 */
function addText(rules: GrammarRules, calling: string): string {
  const [first = '', ...signs] = CALL_OPEN
  const start = rules.reserve()
  const begun = rules.reserve()
  const states = [start, begun, ...signs.slice(1).map(() => rules.reserve())]
  rules.define(start, `[^${first}] ${start} | ${literal(first)} ${begun} | ""`)
  for (const [index, sign] of signs.entries()) {
    const next = states[index + 2] ?? calling
    const other = `[^${first}${sign}] ${start} | ${literal(first)} ${begun} | ""`
    rules.define(states[index + 1] ?? '', `${literal(sign)} ${next} | ${other}`)
  }
  return start
}
