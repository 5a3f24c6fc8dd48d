/**
 * How each field of a request's body is treated. A table of rules is all that a body may hold: what
 * stands in none is refused by name, so that nothing is ever ignored in silence. The tables are in
 * `request-fields.ts`.
 */
import { EdgeError, unsupported } from '../errors.ts'

interface ServedField {
  readonly kind: 'served'
  /** What it does, where its name does not say it all. */
  readonly what?: string
}

interface RefusedField {
  readonly kind: 'refused'
  /** Values that ask for nothing, beside null. */
  readonly unless: readonly unknown[]
  /** Why not, or what to use instead: the caller reads it. */
  readonly why: string
}

/** Whatever it holds, the answer is the same, and its own definition allows that. */
interface IdleField {
  readonly kind: 'idle'
  readonly why: string
}

export type FieldRule = ServedField | RefusedField | IdleField
export type FieldRules = Readonly<Record<string, FieldRule>>

export const served = (what?: string): ServedField =>
  what === undefined ? { kind: 'served' } : { kind: 'served', what }
export const refused = (why: string, ...unless: readonly unknown[]): RefusedField => ({
  kind: 'refused',
  unless,
  why,
})
export const idle = (why: string): IdleField => ({ kind: 'idle', why })

/**
 * Throws `unsupported_parameter` for the first field that cannot be honoured, `unknown_parameter`
 * for one that has no rule. null asks for nothing, whatever its name. What is no object is left to
 * the parser.
 *
 * @param where of `value` in the body, with a dot at its end; empty = it is the body.
 */
export function checkFields(value: unknown, rules: FieldRules, where = ''): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return
  for (const [name, given] of Object.entries(value)) {
    if (given === null || given === undefined) continue
    const param = where + name
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    if (rule === undefined) throw unknownField(param)
    if (rule.kind === 'refused' && !isHarmless(rule, given)) throw unsupported(param, rule.why)
  }
}

function isHarmless({ unless }: RefusedField, value: unknown): boolean {
  const text = JSON.stringify(value)
  return unless.some((harmless) => JSON.stringify(harmless) === text)
}

function unknownField(param: string): EdgeError {
  const message = `Unknown parameter: "${param}". Remove it; nothing is ignored here.`
  return new EdgeError('unknown_parameter', message, { param })
}
