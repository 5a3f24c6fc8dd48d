/**
 * A JSON schema → GBNF whose every text parses and validates. It may leave out texts that would
 * validate too (members beyond `properties`, odd spellings of an address), never the other way
 * round. What cannot be honoured is refused, naming its path and the fix. Bounds: depth, schemas
 * looked at, members, enum values, and the bytes of what comes out.
 */
import { EdgeError, type EdgeErrorCode } from '../../errors.ts'
import { FORMATS } from './format-grammar.ts'
import { GrammarRules, literal, repeated } from './grammar-rules.ts'
import { integerGrammar, type NumberBounds, numberGrammar } from './number-grammar.ts'
import { PatternError, patternGrammar } from './pattern-grammar.ts'
import {
  ANNOTATIONS,
  FIXES,
  KEYWORDS,
  type Schema,
  TYPES,
  type TypeName,
} from './schema-keywords.ts'

/** A reference counts as a level. */
const DEPTH_MAX = 64
/** However often a reference leads to the same one: a pointer can be spelt in many ways. */
const SCHEMAS_MAX = 10_000
const PROPERTIES_MAX = 1000
const ENUM_VALUES_MAX = 1000
const PATTERN_LENGTH_MAX = 1024
const COUNT_MAX = 100_000
/** Beyond it a double cannot hold a fraction beside the whole part. */
const NUMBER_BOUND_MAX = 1e9

/** Any JSON object, for `response_format: {type: 'json_object'}`. */
export const JSON_OBJECT_GRAMMAR = new GrammarRules('response_format').toText('object')

/** `path` names the schema in errors. Throws `invalid_request` or `unsupported_parameter`. */
export function schemaToGrammar(schema: unknown, path: string): string {
  const rules = new GrammarRules(path)
  return rules.toText(addSchema(rules, schema, path))
}

/** The name of the rule that the schema becomes, among others' rules. Throws as above. */
export function addSchema(rules: GrammarRules, schema: unknown, path: string): string {
  return new Converter(rules, schema, path).run()
}

interface Place {
  readonly path: string
  readonly depth: number
  /** References followed since the last object or array began. */
  readonly open: ReadonlySet<string>
}

class Converter {
  readonly #rules: GrammarRules
  readonly #root: unknown
  readonly #path: string
  readonly #references = new Map<string, string>()
  #schemas = 0
  #properties = 0
  #enumValues = 0

  constructor(rules: GrammarRules, root: unknown, path: string) {
    this.#rules = rules
    this.#root = root
    this.#path = path
  }

  run(): string {
    return this.#reference('#', { path: this.#path, depth: 0, open: new Set() })
  }

  /** The name of a rule, or what is as good as one. */
  #visit(value: unknown, place: Place): string {
    this.#schemas += 1
    if (this.#schemas > SCHEMAS_MAX) {
      throw refusal('invalid_request', place, `more than ${SCHEMAS_MAX} schemas in all`)
    }
    if (value === true) return 'value'
    const schema = toSchema(value, place)
    if (place.depth > DEPTH_MAX) {
      throw refusal('invalid_request', place, `schemas are nested more than ${DEPTH_MAX} deep`)
    }
    refuseUnknown(schema, place)
    if (schema.$ref !== undefined) return this.#toReference(schema, place)
    if (schema.enum !== undefined || schema.const !== undefined) return this.#enum(schema, place)
    if (schema.anyOf !== undefined) return this.#anyOf(schema, place)
    const types = toTypes(schema, place)
    if (types === null) return 'value'
    return this.#rules.add(types.map((type) => this.#ofType(type, schema, place)).join(' | '))
  }

  #toReference(schema: Schema, place: Place): string {
    const at = below(place, '$ref')
    assertAlone(schema, '$ref', [], place)
    if (typeof schema.$ref !== 'string' || !/^#(\/|$)/.test(schema.$ref)) {
      throw refusal('unsupported_parameter', at, 'only references within the schema ("#/$defs/…")')
    }
    return this.#reference(schema.$ref, at)
  }

  #reference(pointer: string, place: Place): string {
    if (place.open.has(pointer)) {
      throw refusal('invalid_request', place, `"${pointer}" refers to nothing but itself`)
    }
    const known = this.#references.get(pointer)
    // Also while its body is being made: between the two there is an object or an array.
    if (known !== undefined) return known
    const target = resolvePointer(this.#root, pointer, place)
    const name = this.#rules.reserve()
    this.#references.set(pointer, name)
    const { path, depth, open } = place
    const body = this.#visit(target, { path, depth: depth + 1, open: new Set([...open, pointer]) })
    this.#rules.define(name, body)
    return name
  }

  #enum(schema: Schema, place: Place): string {
    const keyword = schema.enum === undefined ? 'const' : 'enum'
    assertAlone(schema, keyword, ['type'], place)
    const at = below(place, keyword)
    const all = schema.enum === undefined ? [schema.const] : schema.enum
    if (!Array.isArray(all)) throw refusal('invalid_request', at, 'must be an array')
    this.#enumValues += all.length
    if (this.#enumValues > ENUM_VALUES_MAX) {
      throw refusal('invalid_request', at, `more than ${ENUM_VALUES_MAX} enum values in all`)
    }
    const types = toTypes({ type: schema.type } as Schema, place)
    const values = all.filter((value) => types === null || types.some((type) => isOf(type, value)))
    if (values.length === 0) throw refusal('invalid_request', at, 'no value is of the type')
    return this.#rules.add(values.map((value) => literal(JSON.stringify(value))).join(' | '))
  }

  #anyOf(schema: Schema, place: Place): string {
    assertAlone(schema, 'anyOf', [], place)
    const at = below(place, 'anyOf')
    if (!Array.isArray(schema.anyOf) || schema.anyOf.length === 0) {
      throw refusal('invalid_request', at, 'must be an array of schemas')
    }
    const parts = schema.anyOf.map((part, index) => this.#visit(part, below(at, index)))
    return this.#rules.add([...new Set(parts)].join(' | '))
  }

  #ofType(type: TypeName, schema: Schema, place: Place): string {
    switch (type) {
      case 'null':
        return '"null"'
      case 'boolean':
        return '"true" | "false"'
      case 'string':
        return this.#string(schema, place)
      case 'integer':
      case 'number':
        return this.#number(type, schema, place)
      case 'array':
        return this.#array(schema, place)
      case 'object':
        return this.#object(schema, place)
    }
  }

  #string(schema: Schema, place: Place): string {
    const { pattern, format } = schema
    const min = toCount(schema, 'minLength', place) ?? 0
    const max = toCount(schema, 'maxLength', place)
    const isBounded = min > 0 || max !== null
    if ([isBounded, pattern !== undefined, format !== undefined].filter(Boolean).length > 1) {
      throw refusal(
        'unsupported_parameter',
        place,
        '"pattern", "format" and bounds of length exclude each other; write all into the pattern',
      )
    }
    if (pattern !== undefined) return quoted(toPattern(pattern, below(place, 'pattern')))
    if (format !== undefined) {
      const known = typeof format === 'string' && Object.hasOwn(FORMATS, format)
      const served = Object.keys(FORMATS).join(', ')
      if (!known) throw refusal('unsupported_parameter', below(place, 'format'), `not ${served}`)
      return quoted(this.#rules.add(FORMATS[format] ?? ''))
    }
    if (!isBounded) return 'string'
    assertOrder(min, max, 'minLength', 'maxLength', place)
    return quoted(repeated('character', min, max))
  }

  #number(type: 'integer' | 'number', schema: Schema, place: Place): string {
    const bounds = toBounds(schema, place)
    if (bounds === null) return type
    for (const [keyword, bound] of [
      ['minimum', bounds.min],
      ['maximum', bounds.max],
    ] as const) {
      const isServed =
        !Number.isFinite(bound) ||
        (type === 'integer'
          ? Math.abs(bound) <= Number.MAX_SAFE_INTEGER
          : Number.isInteger(bound) && Math.abs(bound) <= NUMBER_BOUND_MAX)
      if (isServed) continue
      const fix =
        type === 'integer'
          ? 'bounds lie within 2^53'
          : `bounds of numbers are whole and within ${NUMBER_BOUND_MAX}`
      throw refusal('unsupported_parameter', below(place, keyword), fix)
    }
    const grammar = type === 'integer' ? integerGrammar(bounds) : numberGrammar(bounds)
    if (grammar === null) throw refusal('invalid_request', place, 'no number is within the bounds')
    return this.#rules.add(grammar)
  }

  #array(schema: Schema, place: Place): string {
    const min = toCount(schema, 'minItems', place) ?? 0
    const max = toCount(schema, 'maxItems', place)
    assertOrder(min, max, 'minItems', 'maxItems', place)
    if (max === 0) return '"[" gap "]"'
    const item = this.#visit(schema.items ?? true, inside(below(place, 'items')))
    return `"[" gap ${list(item, min, max)} "]"`
  }

  #object(schema: Schema, place: Place): string {
    const { properties = {}, additionalProperties: more } = schema
    const at = below(place, 'properties')
    if (!isRecord(properties)) throw refusal('invalid_request', at, 'must be an object')
    const required = toRequired(schema, properties, place)
    const names = Object.keys(properties)
    if (names.length > 0) {
      if (isRecord(more)) {
        const fix =
          'beside "properties" it may be false; give the other members an object of theirs'
        throw refusal('unsupported_parameter', below(place, 'additionalProperties'), fix)
      }
      this.#properties += names.length
      if (this.#properties > PROPERTIES_MAX) {
        throw refusal('invalid_request', at, `more than ${PROPERTIES_MAX} properties in all`)
      }
      const members = names.map((name) => {
        const value = this.#visit(properties[name], inside(below(at, name)))
        const text = `${literal(JSON.stringify(name))} gap ":" gap ${value}`
        return { text, isRequired: required.has(name) }
      })
      return `"{" gap ${this.#members(members)} "}"`
    }
    if (more === false) return '"{" gap "}"'
    const value = this.#visit(more ?? true, inside(below(place, 'additionalProperties')))
    return value === 'value'
      ? 'object'
      : `"{" gap ${list(`( string gap ":" gap ${value} )`, 0, null)} "}"`
  }

  /**
   * Members in the schema's order; each rule is what may follow once one of them stands (`rest`)
   * or none does (`head`), built from the last one backwards.
   */
  #members(members: readonly { readonly text: string; readonly isRequired: boolean }[]): string {
    let rest = 'gap'
    let head: string | null = null
    for (const { text, isRequired } of [...members].reverse()) {
      const behind = rest === 'gap' ? rest : this.#rules.add(rest)
      const first = `${text} ${behind}`
      const skipped: string = head === null ? '""' : this.#rules.add(head)
      head = isRequired ? first : `${first} | ${skipped}`
      rest = isRequired ? `gap "," gap ${first}` : `gap "," gap ${first} | ${behind}`
    }
    return this.#rules.add(head ?? '""')
  }
}

/** Items with commas between, and the gap that follows the last. */
function list(item: string, min: number, max: number | null): string {
  const more = repeated(
    `( gap "," gap ${item} )`,
    Math.max(0, min - 1),
    max === null ? null : max - 1,
  )
  const filled = `${item} ${more} gap`
  return min > 0 ? filled : `( ${filled} )?`
}

function quoted(inner: string): string {
  return `"\\"" ( ${inner} ) "\\""`
}

function toPattern(pattern: unknown, place: Place): string {
  if (typeof pattern !== 'string') throw refusal('invalid_request', place, 'must be a string')
  if (pattern.length > PATTERN_LENGTH_MAX) {
    throw refusal('invalid_request', place, `longer than ${PATTERN_LENGTH_MAX} characters`)
  }
  try {
    return patternGrammar(pattern)
  } catch (error) {
    if (error instanceof PatternError) {
      throw refusal('unsupported_parameter', place, error.message)
    }
    throw error
  }
}

function toBounds(schema: Schema, place: Place): NumberBounds | null {
  const of = (keyword: keyof Schema): number | null => {
    const value = schema[keyword]
    if (value === undefined) return null
    if (typeof value === 'number') return value
    throw refusal('invalid_request', below(place, keyword), 'must be a number')
  }
  const [min, max] = [of('minimum'), of('maximum')]
  const [above, under] = [of('exclusiveMinimum'), of('exclusiveMaximum')]
  if ([min, max, above, under].every((bound) => bound === null)) return null
  return {
    min: Math.max(min ?? -Infinity, above ?? -Infinity),
    max: Math.min(max ?? Infinity, under ?? Infinity),
    isMinExclusive: above !== null && above >= (min ?? -Infinity),
    isMaxExclusive: under !== null && under <= (max ?? Infinity),
  }
}

function toCount(schema: Schema, keyword: keyof Schema, place: Place): number | null {
  const value = schema[keyword]
  if (value === undefined) return null
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= COUNT_MAX) {
    return value
  }
  throw refusal('invalid_request', below(place, keyword), `must be 0 to ${COUNT_MAX}`)
}

function assertOrder(
  min: number,
  max: number | null,
  low: string,
  high: string,
  place: Place,
): void {
  if (max === null || min <= max) return
  throw refusal('invalid_request', below(place, low), `is greater than "${high}"`)
}

function toRequired(schema: Schema, properties: object, place: Place): ReadonlySet<string> {
  const at = below(place, 'required')
  const { required = [] } = schema
  if (!Array.isArray(required)) throw refusal('invalid_request', at, 'must be an array of names')
  for (const name of required) {
    if (typeof name === 'string' && Object.hasOwn(properties, name)) continue
    throw refusal('invalid_request', at, `${JSON.stringify(name)} is not among "properties"`)
  }
  return new Set(required)
}

/** null = any. Keywords tell the type where `type` does not. */
function toTypes(schema: Schema, place: Place): readonly TypeName[] | null {
  const { type } = schema
  if (type === undefined) {
    const implied = TYPES.filter((name) => (KEYWORDS[name] ?? []).some((key) => key in schema))
    return implied.length === 0 ? null : implied.filter((name) => name !== 'integer')
  }
  const names: unknown[] = Array.isArray(type) ? type : [type]
  for (const name of names) {
    if (TYPES.some((known) => known === name)) continue
    const at = below(place, 'type')
    throw refusal(
      'invalid_request',
      at,
      `${JSON.stringify(name)} is not one of ${TYPES.join(', ')}`,
    )
  }
  if (names.length === 0) throw refusal('invalid_request', below(place, 'type'), 'is empty')
  return [...new Set(names)] as TypeName[]
}

function isOf(type: TypeName, value: unknown): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'object') return isRecord(value)
  return typeof value === type
}

function refuseUnknown(schema: Schema, place: Place): void {
  for (const keyword of Object.keys(schema)) {
    if (ANNOTATIONS.has(keyword) || TYPES.some((type) => KEYWORDS[type].includes(keyword))) continue
    if (['type', 'enum', 'const', 'anyOf', '$ref'].includes(keyword)) continue
    const fix = FIXES[keyword] ?? 'leave it out'
    const at = below(place, keyword)
    throw refusal('unsupported_parameter', at, `the keyword is not served: ${fix}`)
  }
}

/** Keywords whose effects cannot be joined. */
function assertAlone(
  schema: Schema,
  keyword: string,
  allowed: readonly string[],
  place: Place,
): void {
  const other = Object.keys(schema).find(
    (key) => key !== keyword && !ANNOTATIONS.has(key) && !allowed.includes(key),
  )
  if (other === undefined) return
  const at = below(place, other)
  throw refusal('unsupported_parameter', at, `it cannot stand beside "${keyword}"`)
}

/** RFC 6901, within the schema. */
function resolvePointer(root: unknown, pointer: string, place: Place): unknown {
  let value = root
  for (const part of pointer.split('/').slice(1)) {
    let name: string
    try {
      name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
    } catch {
      name = part
    }
    const isKnown = typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    if (!isKnown) throw refusal('invalid_request', place, `"${pointer}" is not in the schema`)
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function toSchema(value: unknown, place: Place): Schema {
  if (isRecord(value)) return value
  const what = value === false ? 'false allows nothing' : 'must be an object'
  throw refusal('invalid_request', place, what)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function below({ path, depth, open }: Place, key: string | number): Place {
  return { path: `${path}.${key}`, depth: depth + (typeof key === 'number' ? 1 : 0), open }
}

/** Within the braces of an object or an array, where a schema may come again. */
function inside({ path, depth }: Place): Place {
  return { path, depth: depth + 1, open: new Set() }
}

function refusal(code: EdgeErrorCode, { path }: Place, why: string): EdgeError {
  return new EdgeError(code, `${path}: ${why}`, { param: path })
}
