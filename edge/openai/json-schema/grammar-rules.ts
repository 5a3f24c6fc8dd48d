/**
 * The GBNF that a schema becomes: rules by name, each body once, below a bound of bytes. What all
 * JSON has in common goes by fixed names, and is written only where it is used.
 */
import { EdgeError } from '../../errors.ts'

/** Generated text; a host takes a little more. */
export const GRAMMAR_BYTES_MAX = 240 * 1024

/**
 * Space between tokens is bounded, or a model could write blanks for ever; so are numbers, which
 * are then finite. Escapes never name half of a surrogate pair, so a character counts as one.
 */
const JSON_RULES: Readonly<Record<string, string>> = {
  value: 'object | array | string | number | "true" | "false" | "null"',
  object: '"{" gap ( member ( gap "," gap member )* gap )? "}"',
  member: 'string gap ":" gap value',
  array: '"[" gap ( value ( gap "," gap value )* gap )? "]"',
  string: String.raw`"\"" character* "\""`,
  character: String.raw`[^"\\\x00-\x1F\x7F] | "\\" ( ["\\/bfnrt] | "u" ( [0-9a-cA-CefEF] hex hex hex | [dD] [0-7] hex hex ) )`,
  hex: '[0-9a-fA-F]',
  integer: '"-"? ( "0" | [1-9] [0-9]{0,15} )',
  number: 'integer ( "." [0-9]{1,16} )? ( [eE] [-+]? [0-9]{1,2} )?',
  gap: String.raw`[ \t\n]{0,16}`,
}

export class GrammarRules {
  readonly #named = new Map<string, string>()
  readonly #byBody = new Map<string, string>()
  readonly #param: string
  #count = 0
  #bytes = 0

  /** @param param the field that errors name when the grammar grows too large. */
  constructor(param: string) {
    this.#param = param
  }

  /** A name whose body is still to be told: for what may refer to itself. */
  reserve(): string {
    this.#count += 1
    return `r${this.#count}`
  }

  define(name: string, body: string): void {
    this.#bytes += name.length + body.length + 8
    if (this.#bytes > GRAMMAR_BYTES_MAX) {
      const message = 'the JSON schema is too large to be compiled'
      throw new EdgeError('invalid_request', message, { param: this.#param })
    }
    this.#named.set(name, body)
  }

  /** The name of a rule with this body. */
  add(body: string): string {
    const known = this.#byBody.get(body)
    if (known !== undefined) return known
    const name = this.reserve()
    this.#byBody.set(body, name)
    this.define(name, body)
    return name
  }

  /** The whole grammar, with the rules of JSON that it uses. */
  toText(root: string): string {
    const lines = [`root ::= ${root}`]
    const bodies = [root, ...this.#named.values()]
    for (const [name, body] of this.#named) lines.push(`${name} ::= ${body}`)
    const used = new Set<string>()
    const use = (text: string): void => {
      for (const [word] of text.replaceAll(LITERALS, '').matchAll(WORDS)) {
        const body = JSON_RULES[word]
        if (body === undefined || used.has(word)) continue
        used.add(word)
        lines.push(`${word} ::= ${body}`)
        use(body)
      }
    }
    for (const body of bodies) use(body)
    return `${lines.join('\n')}\n`
  }
}

const LITERALS = /"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]/gs
const WORDS = /[a-z][a-z0-9-]*/gi

/** A GBNF literal of exactly this text. */
export function literal(text: string): string {
  const escaped = text.replaceAll(/["\\]|[\p{Cc}]/gu, (sign) =>
    sign === '"' || sign === '\\' ? `\\${sign}` : toHexEscape(sign.codePointAt(0) ?? 0),
  )
  return `"${escaped}"`
}

/** Inclusive ranges of code points. */
export type CodePoints = readonly (readonly [number, number])[]

/** A GBNF class; everything but letters and digits is written as its number. */
export function characterClass(ranges: CodePoints): string {
  const sign = (point: number): string => {
    const text = String.fromCodePoint(point)
    return /[0-9A-Za-z]/.test(text) ? text : toHexEscape(point)
  }
  const parts = ranges.map(([low, high]) =>
    low === high ? sign(low) : `${sign(low)}-${sign(high)}`,
  )
  return `[${parts.join('')}]`
}

function toHexEscape(point: number): string {
  const hex = point.toString(16)
  if (point <= 0xff) return `\\x${hex.padStart(2, '0')}`
  if (point <= 0xffff) return `\\u${hex.padStart(4, '0')}`
  return `\\U${hex.padStart(8, '0')}`
}

/** `min` to `max` of what `expression` names; null = no end. */
export function repeated(expression: string, min: number, max: number | null): string {
  if (max === null) return `${expression}{${min},}`
  return min === max ? `${expression}{${min}}` : `${expression}{${min},${max}}`
}
