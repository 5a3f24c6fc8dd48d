/** JSON schema's keywords: those served, those that say nothing of the value, and the rest. */

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const
export type TypeName = (typeof TYPES)[number]

/** Values are checked where they are used. */
export type Schema = Readonly<Record<string, unknown>>

const NUMBERS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum']

export const KEYWORDS: Readonly<Record<TypeName, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: NUMBERS,
  integer: NUMBERS,
  boolean: [],
  null: [],
}

export const ANNOTATIONS: ReadonlySet<string> = new Set([
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
])

/** What to write instead. */
export const FIXES: Readonly<Record<string, string>> = {
  oneOf: 'use "anyOf"',
  allOf: 'write the parts as one schema',
  not: 'say what is allowed',
  if: 'use "anyOf"',
  nullable: 'use "type": ["…", "null"]',
  prefixItems: 'use an object with a property per place',
  multipleOf: 'use "enum" or a string with a "pattern"',
  patternProperties: 'use "additionalProperties" with a schema',
  propertyNames: 'use "properties"',
  uniqueItems: 'check it when the answer is there',
  contains: 'use "items"',
  minProperties: 'use "required"',
  maxProperties: 'use "properties"',
  $dynamicRef: 'use "$ref"',
}
