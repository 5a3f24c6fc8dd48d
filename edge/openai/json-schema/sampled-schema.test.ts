/**
 * What a model writes under a schema's grammar parses and validates: random schemas, drawn at
 * random by the real engine on the tiny model, judged by zod's reading of the same schema.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { z } from 'zod'
import { Random } from '../../../native/test/support/random.ts'
import { SampledTexts } from '../../test/support/sampled-text.ts'
import { JSON_OBJECT_GRAMMAR, schemaToGrammar } from './schema-grammar.ts'

let texts: SampledTexts

beforeAll(async () => {
  texts = await SampledTexts.open()
})
afterAll(() => texts.close())

function randomSchema(random: Random, depth: number): object {
  const below = (count: number): number => random.integer(count)
  const leaf = [
    () => ({ type: 'string' }),
    () => ({ type: 'string', minLength: below(3), maxLength: 3 + below(6) }),
    () => ({ type: 'string', format: ['date', 'date-time', 'uuid', 'ipv4', 'email'][below(5)] }),
    () => ({ type: 'string', pattern: '^([a-c]+|\\d{2,4})[^"x]$' }),
    () => ({ type: 'integer', minimum: -below(300), maximum: below(300) }),
    () => ({ type: 'number', exclusiveMinimum: -1 - below(9), maximum: below(9) }),
    () => ({ type: ['boolean', 'null'] }),
    () => ({ enum: ['red', 'gr"een', 3, null, 'é'].slice(0, 1 + below(5)) }),
    () => ({ type: 'number' }),
  ]
  const inner = (): object => randomSchema(random, depth - 1)
  const branch = [
    () => ({ type: 'array', items: inner(), minItems: below(2), maxItems: 2 + below(3) }),
    () => ({ anyOf: [inner(), inner()] }),
    () => {
      const names = ['a', 'b"', 'é', 'long name'].slice(0, 1 + below(4))
      const properties = Object.fromEntries(names.map((name) => [name, inner()]))
      const required = names.filter(() => random.fraction() < 0.6)
      return { type: 'object', properties, required, additionalProperties: false }
    },
  ]
  const choices = depth > 0 && random.fraction() < 0.7 ? branch : leaf
  return choices[below(choices.length)]?.() ?? {}
}

it('validates, for random schemas', async () => {
  let whole = 0
  for (let seed = 1; seed <= 60; seed++) {
    const schema = randomSchema(new Random('schema', seed), 2)
    const text = await texts.write(schemaToGrammar(schema, 'schema'), seed)
    if (text === null) continue
    whole += 1
    const judged = z
      .fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0])
      .safeParse(JSON.parse(text))
    expect(judged.error?.issues ?? [], `seed ${seed}: ${JSON.stringify(schema)}: ${text}`).toEqual(
      [],
    )
  }
  expect(whole).toBeGreaterThan(40)
})

it('validates, for a schema that refers to itself', async () => {
  const schema = {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: {
          name: { type: 'string', maxLength: 4 },
          next: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/node' }] },
          children: { type: 'array', items: { $ref: '#/$defs/node' }, maxItems: 2 },
        },
        required: ['name', 'next', 'children'],
        additionalProperties: false,
      },
    },
  }
  const grammar = schemaToGrammar(schema, 'schema')
  let whole = 0
  let deepest = 0
  for (let seed = 1; seed <= 40; seed++) {
    const text = await texts.write(grammar, seed)
    if (text === null) continue
    whole += 1
    deepest = Math.max(deepest, text.split('"name"').length - 1)
    const judged = z
      .fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0])
      .safeParse(JSON.parse(text))
    expect(judged.error?.issues ?? [], `seed ${seed}: ${text}`).toEqual([])
  }
  expect(whole).toBeGreaterThan(5)
  expect(deepest).toBeGreaterThan(1)
})

it('parses to an object under json_object', async () => {
  let whole = 0
  for (let seed = 1; seed <= 40; seed++) {
    const text = await texts.write(JSON_OBJECT_GRAMMAR, seed)
    if (text === null) continue
    whole += 1
    const value: unknown = JSON.parse(text)
    expect(typeof value === 'object' && value !== null && !Array.isArray(value), text).toBe(true)
  }
  expect(whole).toBeGreaterThan(5)
})
