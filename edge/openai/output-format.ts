/** What the output must look like, as clients say it → one GBNF grammar, or none. */
import { z } from 'zod'
import { unsupported } from '../errors.ts'
import { JSON_OBJECT_GRAMMAR, schemaToGrammar } from './json-schema/schema-grammar.ts'

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

/** Throws `invalid_request` or `unsupported_parameter`, naming the field or the schema's path. */
export function toGrammar(
  format: z.infer<typeof responseFormat> | null | undefined,
  grammar: string | null | undefined,
): string | null {
  if (format == null) return grammar ?? null
  if (format.type !== 'json_schema' && format.json_schema != null) {
    throw unsupported('response_format.json_schema', 'It needs "type": "json_schema".')
  }
  if (format.type === 'text') return grammar ?? null
  if (grammar != null) throw unsupported('grammar', 'It excludes a JSON "response_format".')
  if (format.type === 'json_object') return JSON_OBJECT_GRAMMAR
  // Without "strict" OpenAI only tries; here a schema always holds.
  return schemaToGrammar(format.json_schema.schema ?? {}, 'response_format.json_schema.schema')
}
