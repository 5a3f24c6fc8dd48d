import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toRegExp } from '../../test/support/grammar-regexp.ts'
import { schemaToGrammar } from './schema-grammar.ts'

const grammarOf = (schema: unknown): string => schemaToGrammar(schema, 'schema')
const accepts = (schema: unknown): ((text: string) => boolean) => {
  const regExp = toRegExp(grammarOf(schema))
  return (text) => regExp.test(text)
}

describe('schemaToGrammar', () => {
  it('takes exactly the integers within the bounds', () => {
    const bound = fc.option(fc.integer({ min: -1100, max: 1100 }), { nil: undefined })
    fc.assert(
      fc.property(bound, bound, bound, bound, (minimum, maximum, above, below) => {
        const schema = {
          type: 'integer',
          ...(minimum !== undefined && { minimum }),
          ...(maximum !== undefined && { maximum }),
          ...(above !== undefined && { exclusiveMinimum: above }),
          ...(below !== undefined && { exclusiveMaximum: below }),
        }
        const isWithin = (value: number): boolean =>
          value >= (minimum ?? value) &&
          value <= (maximum ?? value) &&
          value > (above ?? value - 1) &&
          value < (below ?? value + 1)
        const values = Array.from({ length: 2401 }, (_, i) => i - 1200)
        const hasAny = values.some(isWithin)
        if (!hasAny) {
          expect(() => grammarOf(schema)).toThrow('no number is within the bounds')
          return
        }
        const takes = accepts(schema)
        for (const value of values) expect(takes(String(value)), `${value}`).toBe(isWithin(value))
        for (const text of ['01', '1.0', '+1', '', '-']) expect(takes(text)).toBe(false)
      }),
      { numRuns: 60 },
    )
  })

  it('takes exactly the decimals within whole bounds', () => {
    const bound = fc.option(fc.integer({ min: -30, max: 30 }), { nil: undefined })
    const digits = fc.tuple(fc.integer({ min: -35, max: 35 }), fc.integer({ min: 0, max: 999 }))
    fc.assert(
      fc.property(
        bound,
        bound,
        fc.boolean(),
        fc.boolean(),
        fc.array(digits, { minLength: 20, maxLength: 20 }),
        (low, high, isLowOut, isHighOut, samples) => {
          const schema = {
            type: 'number',
            ...(low !== undefined && { [isLowOut ? 'exclusiveMinimum' : 'minimum']: low }),
            ...(high !== undefined && { [isHighOut ? 'exclusiveMaximum' : 'maximum']: high }),
          }
          if (low === undefined && high === undefined) return
          const isWithin = (value: number): boolean =>
            (low === undefined || (isLowOut ? value > low : value >= low)) &&
            (high === undefined || (isHighOut ? value < high : value <= high))
          const [from, to] = [low ?? -Infinity, high ?? Infinity]
          if (from > to || (from === to && (isLowOut || isHighOut))) {
            expect(() => grammarOf(schema)).toThrow('no number is within the bounds')
            return
          }
          const takes = accepts(schema)
          for (const [whole, fraction] of samples) {
            for (const text of [`${whole}`, `${whole}.${fraction}`]) {
              const value = Number(text)
              if (Object.is(value, -0)) continue
              // A fraction that ends in zeros may be left out, never a wrong one taken.
              if (takes(text)) expect(isWithin(value), text).toBe(true)
              else if (!/\..*0$/.test(text)) expect(isWithin(value), text).toBe(false)
            }
          }
        },
      ),
      { numRuns: 300 },
    )
  })

  it.each([
    '^[A-Z]{2}-\\d+$',
    '^(a|bc)*d?$',
    'ab',
    '^a|b$',
    '^[^ab]+$',
    '^["\\\\]a$',
    '^\\s\\S\\w\\W$',
    '^(?:a(?:b|\\.)){1,2}$',
    '^.b.$',
    '^\\x61\\u0062\\/$',
    '^(?<first>a+?)b*?$',
  ])('takes exactly what the pattern %s matches', (pattern) => {
    const takes = accepts({ type: 'string', pattern })
    const signs = fc.constantFrom(
      'a',
      'b',
      'c',
      'd',
      'A',
      'Z',
      '-',
      '0',
      '"',
      '\\',
      '.',
      '/',
      ' ',
      'é',
    )
    fc.assert(
      fc.property(fc.string({ unit: signs, maxLength: 7 }), (text) => {
        expect(takes(JSON.stringify(text)), text).toBe(new RegExp(pattern, 'u').test(text))
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    [
      'date',
      ['2024-02-29', '1900-12-31', '2000-02-29'],
      ['2023-02-29', '1900-02-29', '2024-04-31'],
    ],
    ['time', ['23:59:59Z', '00:00:00.125+05:30'], ['24:00:00Z', '12:00:00', '12:60:00Z']],
    ['date-time', ['2024-06-30T12:00:00Z'], ['2024-06-30', '2024-06-31T12:00:00Z']],
    ['duration', ['P1Y2M', 'PT5M', 'P3W', 'P1DT2H'], ['P', 'PT', 'P1Y3D', '5M']],
    ['uuid', ['123e4567-e89b-12d3-a456-426614174000'], ['123e4567']],
    ['email', ['first.last@example.org'], ['@example.org', 'a@b']],
    ['hostname', ['a-b.example.org'], ['-a.org', 'a..b']],
    ['ipv4', ['0.0.0.0', '255.249.100.9'], ['256.1.1.1', '01.1.1.1', '1.1.1']],
    ['ipv6', ['2001:db8:0:0:0:0:0:1'], ['1:2', 'g:0:0:0:0:0:0:0']],
  ])('takes a %s, and nothing that is none', (format, good, bad) => {
    const takes = accepts({ type: 'string', format })
    for (const text of good) expect(takes(`"${text}"`), text).toBe(true)
    for (const text of bad) expect(takes(`"${text}"`), text).toBe(false)
  })

  it('writes members in order, each optional one or not, none twice, none other', () => {
    const takes = accepts({
      type: 'object',
      properties: { a: { const: 1 }, b: { type: 'null' }, c: { enum: ['x', 'y'] } },
      required: ['b'],
      additionalProperties: false,
    })
    for (const text of ['{"b":null}', '{"a":1,"b":null}', '{ "b" : null ,\n"c": "y" }']) {
      expect(takes(text), text).toBe(true)
    }
    for (const text of [
      '{}',
      '{"b":null,}',
      '{,"b":null}',
      '{"b":null,"a":1}',
      '{"b":null,"b":null}',
      '{"b":null,"d":1}',
      '{"b":null}x',
    ]) {
      expect(takes(text), text).toBe(false)
    }
  })

  it('counts items and characters', () => {
    const array = accepts({ type: 'array', items: { const: 0 }, minItems: 2, maxItems: 3 })
    expect(['[0]', '[0,0]', '[0, 0 ,0]', '[0,0,0,0]'].map(array)).toEqual([
      false,
      true,
      true,
      false,
    ])
    const text = accepts({ type: 'string', minLength: 2, maxLength: 3 })
    expect(['"a"', '"aé"', '"😀\\n\\u00e9"', '"aaaa"'].map(text)).toEqual([
      false,
      true,
      true,
      false,
    ])
    const none = accepts({ type: 'array', maxItems: 0 })
    expect(['[]', '[0]'].map(none)).toEqual([true, false])
  })

  it('joins types, enums and alternatives', () => {
    const takes = accepts({
      anyOf: [
        { type: ['boolean', 'null'] },
        { type: 'string', enum: ['a"b', 'é', 5] },
        { const: { deep: [1, null] } },
      ],
    })
    for (const text of ['true', 'null', '"a\\"b"', '"é"', '{"deep":[1,null]}']) {
      expect(takes(text), text).toBe(true)
    }
    for (const text of ['5', '"a', 'True']) expect(takes(text), text).toBe(false)
  })

  it.each([
    [{ type: 'object', oneOf: [] }, 'schema.oneOf', 'use "anyOf"'],
    [{ type: 'thing' }, 'schema.type', 'not one of'],
    [
      { properties: { a: { type: 'string', format: 'uri' } } },
      'schema.properties.a.format',
      'uuid',
    ],
    [{ properties: { a: false } }, 'schema.properties.a', 'allows nothing'],
    [{ items: { allOf: [] } }, 'schema.items.allOf', 'one schema'],
    [{ properties: {}, required: ['x'] }, 'schema.required', '"x" is not among'],
    [{ properties: { a: {} }, additionalProperties: {} }, 'schema.additionalProperties', 'false'],
    [{ pattern: 'a(?=b)' }, 'schema.pattern', 'look-around'],
    [{ pattern: '(a)\\1' }, 'schema.pattern', '"\\1" is not served'],
    [{ pattern: 'a', maxLength: 3 }, 'schema', 'exclude each other'],
    [{ enum: [] }, 'schema.enum', 'no value'],
    [{ const: 1, minimum: 0 }, 'schema.minimum', 'beside "const"'],
    [{ anyOf: [{ $ref: '#' }] }, 'schema.anyOf.0.$ref', 'nothing but itself'],
    [{ $ref: '#/$defs/x' }, 'schema.$ref', 'not in the schema'],
    [{ $ref: 'https://example.org/x' }, 'schema.$ref', 'within the schema'],
    [{ type: 'number', minimum: 0.5 }, 'schema.minimum', 'whole'],
    [{ minItems: 3, maxItems: 2 }, 'schema.minItems', 'greater than'],
    [{ maxItems: 1e6 }, 'schema.maxItems', '0 to 100000'],
    [7, 'schema', 'must be an object'],
  ])('refuses what it cannot honour, with path and fix, case %#', (schema, param, message) => {
    expect(() => grammarOf(schema)).toThrow(
      expect.objectContaining({ status: 400, param, message: expect.stringContaining(message) }),
    )
  })

  it('refuses what is too deep, too wide or too large', () => {
    const nested = (levels: number): object =>
      levels === 0 ? {} : { type: 'array', items: nested(levels - 1) }
    expect(grammarOf(nested(60))).toContain('root')
    expect(() => grammarOf(nested(70))).toThrow('nested more than 64 deep')
    const wide = Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`p${i}`, {}]))
    expect(() => grammarOf({ properties: wide })).toThrow('more than 1000 properties')
    const values = Array.from({ length: 1001 }, (_, i) => i)
    expect(() => grammarOf({ enum: values })).toThrow('more than 1000 enum values')
    expect(() => grammarOf({ enum: ['x'.repeat(300_000)] })).toThrow('too large')
    expect(() => grammarOf({ type: 'array', items: { enum: null } })).toThrow('must be an array')
    // Shared parts must not multiply: each level names the one below twice.
    const $defs = Object.fromEntries(
      Array.from({ length: 25 }, (_, i) => {
        const part = { $ref: `#/$defs/d${i + 1}` }
        return [`d${i}`, { type: 'object', properties: { a: part, b: part } }]
      }),
    )
    const doubled = { $ref: '#/$defs/d0', $defs: { ...$defs, d25: { type: 'null' } } }
    expect(grammarOf(doubled).length).toBeLessThan(20_000)
  })

  it('refuses one definition under a thousand spellings', () => {
    const spelt = (i: number): string =>
      [...'definition']
        .map((c, at) => ((i >> at) & 1 ? `%${c.charCodeAt(0).toString(16)}` : c))
        .join('')
    const definition = { anyOf: Array.from({ length: 500 }, () => ({ type: 'null' })) }
    const ways = (count: number) => ({
      $defs: { definition },
      anyOf: Array.from({ length: count }, (_, i) => ({ $ref: `#/$defs/${spelt(i)}` })),
    })
    expect(grammarOf(ways(10))).toContain('root')
    expect(() => grammarOf(ways(1000))).toThrow('more than 10000 schemas')
  })

  it('refuses what is no text where a name belongs', () => {
    const odd = { toString: 1, valueOf: 1 }
    expect(() => grammarOf({ type: odd })).toThrow('is not one of')
    expect(() => grammarOf({ properties: { a: {} }, required: [odd] })).toThrow('is not among')
  })
})
