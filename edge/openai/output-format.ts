/** What the output must look like, as clients say it → one GBNF grammar, or none. */
import { z } from 'zod'
import { unsupported } from '../errors.ts'
import type { GrammarRules } from './json-schema/grammar-rules.ts'
import { addSchema, JSON_OBJECT_GRAMMAR, schemaToGrammar } from './json-schema/schema-grammar.ts'

const jsonSchema = z.looseObject({
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, "_" or "-"'),
  description: z.string().nullish(),
  schema: z.unknown(),
  strict: z.boolean().nullish(),
})

export const responseFormat = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('text'), json_schema: z.unknown().optional() }),
  z.looseObject({ type: z.literal('json_object'), json_schema: z.unknown().optional() }),
  z.looseObject({ type: z.literal('json_schema'), json_schema: jsonSchema }),
])
export type ResponseFormat = z.infer<typeof responseFormat>

const SCHEMA_PATH = 'response_format.json_schema.schema'

/** Throws `invalid_request` or `unsupported_parameter`, naming the field or the schema's path. */
export function toGrammar(
  format: ResponseFormat | null | undefined,
  grammar: string | null | undefined,
): string | null {
  const schema = toSchema(format)
  if (schema === null) return grammar ?? null
  if (grammar != null) throw unsupported('grammar', 'It excludes a JSON "response_format".')
  return schema === 'object' ? JSON_OBJECT_GRAMMAR : schemaToGrammar(schema.schema, SCHEMA_PATH)
}

/** Adds the format's rule to others', and names it; null = any text is good. Throws as above. */
export function addFormatRule(
  format: ResponseFormat | null | undefined,
): ((rules: GrammarRules) => string) | null {
  const schema = toSchema(format)
  if (schema === null) return null
  return (rules) => (schema === 'object' ? schema : addSchema(rules, schema.schema, SCHEMA_PATH))
}

function toSchema(
  format: ResponseFormat | null | undefined,
): 'object' | { readonly schema: unknown } | null {
  if (format == null) return null
  if (format.type !== 'json_schema' && format.json_schema != null) {
    throw unsupported('response_format.json_schema', 'It needs "type": "json_schema".')
  }
  if (format.type === 'text') return null
  if (format.type === 'json_object') return 'object'
  // Without "strict" OpenAI only tries; here a schema always holds.
  return { schema: format.json_schema.schema ?? {} }
}
