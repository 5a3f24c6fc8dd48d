/**
 * What is wrong with a value, in a caller's words: what the field must be, not what the validator
 * met. Words that a schema has itself go before these.
 */
import { z } from 'zod'

type Issue = z.core.$ZodRawIssue

const KINDS: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
}
const COUNTED: Readonly<Record<string, readonly [one: string, many: string]>> = {
  string: ['character', 'characters'],
  array: ['item', 'items'],
}

/** @param whole what was parsed. null = no better words than the validator's. */
export function inPlainWords(issue: Issue, whole: unknown): string | null {
  switch (issue.code) {
    case 'invalid_type':
      return isMissing(issue, whole) ? 'is needed' : `must be ${kindOf(issue)}`
    case 'invalid_value':
      return issue.input === undefined ? 'is needed' : `must be ${choiceOf(issue.values)}`
    case 'too_small':
      return toBound(issue.inclusive ? 'at least' : 'more than', issue.minimum, issue.origin)
    case 'too_big':
      return toBound(issue.inclusive ? 'at most' : 'less than', issue.maximum, issue.origin)
    case 'unrecognized_keys':
      return unknownKeys(issue)
    case 'invalid_union':
      return unionWords(issue)
    case 'invalid_key':
      return `is not a valid key: it ${issue.issues[0]?.message ?? 'is of another kind'}`
    case 'invalid_format':
      return issue.pattern === undefined ? null : `must match ${issue.pattern}`
    default:
      return null
  }
}

/** A number that was made of a missing text is NaN. */
function isMissing({ input, path = [] }: Issue, whole: unknown): boolean {
  return input === undefined || (Number.isNaN(input) && valueAt(whole, path) === undefined)
}

function valueAt(whole: unknown, path: readonly PropertyKey[]): unknown {
  let value = whole
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, key)
  }
  return value
}

function kindOf({ expected, inst }: z.core.$ZodRawIssue<z.core.$ZodIssueInvalidType>): string {
  if (inst instanceof z.ZodNumber && inst.isInt) return 'a whole number'
  return KINDS[expected] ?? expected
}

function choiceOf(values: readonly unknown[]): string {
  return values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`
}

function toBound(bound: string, limit: number | bigint, origin: string): string {
  const [one, many] = COUNTED[origin] ?? []
  if (one === undefined) return `must be ${bound} ${limit}`
  return `must have ${bound} ${limit} ${Number(limit) === 1 ? one : many}`
}

function unknownKeys({
  keys,
  inst,
}: z.core.$ZodRawIssue<z.core.$ZodIssueUnrecognizedKeys>): string {
  const unknown = keys.map((key) => JSON.stringify(key)).join(', ')
  const verb = keys.length === 1 ? 'is not a field' : 'are not fields'
  const known = inst instanceof z.ZodObject ? Object.keys(inst.shape).join(', ') : ''
  return `${unknown} ${verb}${known && `; the fields are ${known}`}`
}

/** All that the field may be; where its kind is right, what is wrong with that. */
function unionWords(issue: z.core.$ZodRawIssue<z.core.$ZodIssueInvalidUnion>): string | null {
  if (issue.input === undefined) return 'is needed'
  if ('options' in issue && Array.isArray(issue.options))
    return `must be ${choiceOf(issue.options)}`
  const kinds = new Set<string>()
  for (const [first] of issue.errors) {
    if (first === undefined) continue
    const isKind = first.code === 'invalid_type' && first.path.length === 0
    if (!isKind)
      return first.path.length === 0 ? first.message : `${first.path.join('.')} ${first.message}`
    kinds.add(KINDS[first.expected] ?? first.expected)
  }
  return `must be ${[...kinds].join(' or ')}`
}
