/** A JSON schema → rows that a person reads: one per field, with those inside it below. Pure. */

export interface SchemaRow {
  /** Empty = the value itself. */
  readonly name: string
  /** How deep it lies in others. */
  readonly depth: number
  /** In words: `text`, `list of whole numbers`, `"a" or "b"`. */
  readonly kind: string
  readonly isRequired: boolean
  readonly note: string
}

type Schema = Readonly<Record<string, unknown>>

const KINDS: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'whole number',
  number: 'number',
  boolean: 'true or false',
  array: 'list',
  object: 'object',
  null: 'null',
}
/** What `z.int()` says of every whole number. */
const UNBOUND = Number.MAX_SAFE_INTEGER

export function toSchemaRows(schema: Schema): SchemaRow[] {
  const rows = fieldsOf(schema, 0)
  if (rows.length > 0) return rows
  return [{ name: '', depth: 0, kind: kindOf(schema), isRequired: true, note: noteOf(schema) }]
}

function fieldsOf(schema: Schema, depth: number): SchemaRow[] {
  const branches = branchesOf(schema)
  if (branches.length > 0) return branches.flatMap((branch) => fieldsOf(branch, depth))
  const { items } = schema
  if (isSchema(items)) return fieldsOf(items, depth)
  const { properties, required } = schema
  if (!isSchema(properties)) return []
  const needed = Array.isArray(required) ? required : []
  return Object.entries(properties).flatMap(([name, field]) => {
    if (!isSchema(field)) return []
    const isRequired = needed.includes(name)
    const row = { name, depth, kind: kindOf(field), isRequired, note: noteOf(field) }
    return [row, ...fieldsOf(field, depth + 1)]
  })
}

export function kindOf(schema: Schema): string {
  const branches = branchesOf(schema)
  if (branches.length > 0) return [...new Set(branches.map(kindOf))].join(' or ')
  if ('const' in schema) return JSON.stringify(schema.const)
  if (Array.isArray(schema.enum)) {
    return schema.enum.map((value) => JSON.stringify(value)).join(' or ')
  }
  const { type, items } = schema
  if (type === 'array' && isSchema(items)) return `list of ${kindOf(items)}`
  return typeof type === 'string' ? (KINDS[type] ?? type) : 'anything'
}

function noteOf(schema: Schema): string {
  const bounds = [schema, ...branchesOf(schema)].flatMap(boundsOf)
  const standard = schema.default
  return [
    ...(typeof schema.description === 'string' ? [schema.description] : []),
    ...(bounds.length > 0 ? [`${bounds.join(', ')}.`] : []),
    ...(standard === undefined || standard === null
      ? []
      : [`Default: ${JSON.stringify(standard)}.`]),
  ].join(' ')
}

function boundsOf(schema: Schema): string[] {
  const say = (name: string, words: string): string[] => {
    const value = schema[name]
    const isBound = typeof value === 'number' && Math.abs(value) < UNBOUND
    return isBound ? [`${words} ${value}`] : []
  }
  return [
    ...say('minimum', 'at least'),
    ...say('exclusiveMinimum', 'more than'),
    ...say('maximum', 'at most'),
    ...say('maxLength', 'characters at most'),
    ...say('maxItems', 'items at most'),
  ]
}

function branchesOf(schema: Schema): Schema[] {
  const branches = schema.anyOf ?? schema.oneOf
  return Array.isArray(branches) ? branches.filter(isSchema) : []
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
