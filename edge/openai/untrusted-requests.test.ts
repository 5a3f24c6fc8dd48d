/**
 * Whatever a body holds, the outcome is a call that the protocol takes, or a refusal: an EdgeError
 * of status 400 that names the field where there is one. Nothing else is thrown, however deep, long
 * or odd it is.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { samplingOptions } from '#protocol'
import {
  FUZZ_SEED,
  FUZZ_TIMEOUT_MS,
  fuzzParameters,
  reportFuzz,
} from '../../native/test/support/fuzz.ts'
import { EdgeError } from '../errors.ts'
import { ERROR_MESSAGE_CHARACTERS_MAX, ERROR_PARAM_CHARACTERS_MAX } from '../limits.ts'
import { parseJson } from '../read-body.ts'
import type { Call } from './call-fields.ts'
import { parseChatRequest } from './chat-request.ts'
import { parseCompletionRequest } from './completion-request.ts'
import { GRAMMAR_BYTES_MAX } from './json-schema/grammar-rules.ts'
import { schemaToGrammar } from './json-schema/schema-grammar.ts'
import { KEYWORDS } from './json-schema/schema-keywords.ts'
import { CHAT_FIELDS, COMPLETION_FIELDS } from './request-fields.ts'

/** Of a soak's time, for each of the three. */
const SHARE = 1 / 3

/** null = refused, as it must be refused. */
function outcome<T>(make: () => T): T | null {
  try {
    return make()
  } catch (error) {
    if (!(error instanceof EdgeError)) throw error
    expect(error.status).toBe(400)
    expect(error.message.length).toBeLessThanOrEqual(ERROR_MESSAGE_CHARACTERS_MAX)
    expect(error.param?.length ?? 0).toBeLessThanOrEqual(ERROR_PARAM_CHARACTERS_MAX)
    return null
  }
}

function expectSound({ generate }: Call): void {
  expect(samplingOptions.safeParse(generate.sampling).success).toBe(true)
  expect(generate.n).toBeGreaterThanOrEqual(1)
  expect(generate.max_tokens ?? 1).toBeGreaterThanOrEqual(1)
}

const deep = fc
  .record({ depth: fc.integer({ min: 1, max: 400 }), isList: fc.boolean() })
  .map(({ depth, isList }) =>
    isList
      ? '['.repeat(depth) + ']'.repeat(depth)
      : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
  )
const number = fc.constantFrom(
  '-1',
  '0',
  '0.5',
  '2147483648',
  '1e999',
  '-1e-320',
  '9007199254740993',
)
const odd = fc.constantFrom(
  ...[
    'null',
    'true',
    '""',
    '[]',
    '{}',
    '[null]',
    '"\\ud800"',
    '"\\u0000"',
    '{"toString":1,"valueOf":1}',
  ],
  ...[
    '[{"role":"user","content":"x"}]',
    '[{"role":"user","content":[{"type":"text"}]}]',
    '[[1,2]]',
  ],
  ...[
    '[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object"}}}]',
    '[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":[]}}}]',
    '"required"',
    '{"type":"function","function":{"name":"f"}}',
    '[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}]',
    '[{"role":"tool","tool_call_id":"c"}]',
  ],
  ...['{"type":"json_object"}', '{"type":"json_schema","json_schema":{"name":"x","schema":{}}}'],
)
const valueText = fc.oneof(deep, number, odd, fc.json({ maxDepth: 4 }))

/** A body's text: members by name, some of them twice, some of them sound. */
function bodyText(fields: readonly string[], sound: readonly string[]): fc.Arbitrary<string> {
  const name = fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...fields) },
    { weight: 1, arbitrary: fc.constantFrom('__proto__', 'constructor', 'toString', '') },
    { weight: 1, arbitrary: fc.string({ maxLength: 400 }) },
  )
  const member = fc.tuple(name, valueText).map(([key, text]) => `${JSON.stringify(key)}:${text}`)
  const members = fc.array(member, { maxLength: 4 })
  return fc.tuple(fc.boolean(), members).map(([isBegun, more]) => {
    return `{${[...(isBegun ? sound : []), ...more].join(',')}}`
  })
}

const damage = fc.option(
  fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), byte: fc.nat(255) }),
  {
    freq: 4,
  },
)

describe('untrusted requests', () => {
  it('are refused for a member called __proto__, wherever it stands', () => {
    const messages = '[{"role":"user","content":"x","__proto__":{"role":"system"}}]'
    const body = Buffer.from(`{"model":"m","messages":${messages}}`)
    const refusal = { code: 'invalid_request', param: 'messages.0.__proto__' }
    expect(() => parseChatRequest(parseJson(body))).toThrow(expect.objectContaining(refusal))
  })

  it('are quoted in part, however long a name is', () => {
    const body = Buffer.from(JSON.stringify({ ['n'.repeat(1_000_000)]: 1 }))
    expect(outcome(() => parseChatRequest(parseJson(body)))).toBeNull()
  })

  it.each([
    [
      'chat',
      parseChatRequest,
      Object.keys(CHAT_FIELDS),
      ['"model":"m"', '"messages":[{"role":"user","content":"x"}]'],
    ],
    [
      'text',
      parseCompletionRequest,
      Object.keys(COMPLETION_FIELDS),
      ['"model":"m"', '"prompt":"x"'],
    ],
  ] as const)(
    'with any members, or damaged bytes: %s',
    (kind, parse, fields, sound) => {
      let executions = 0
      let accepted = 0
      fc.assert(
        fc.property(bodyText(fields, sound), damage, (text, change) => {
          executions += 1
          const bytes = Buffer.from(text)
          if (change !== null) bytes[Math.floor(change.at * bytes.length)] = change.byte
          const call = outcome(() => parse(parseJson(bytes)))
          if (call === null) return
          accepted += 1
          expectSound(call)
        }),
        fuzzParameters(1500, SHARE),
      )
      expect(accepted).toBeGreaterThan(0)
      expect(accepted).toBeLessThan(executions)
      reportFuzz(`${kind} request`, { seed: FUZZ_SEED, executions, accepted })
    },
    FUZZ_TIMEOUT_MS,
  )

  it(
    'with any JSON schema',
    () => {
      const keyword = fc.constantFrom(
        ...new Set(Object.values(KEYWORDS).flat()),
        ...[
          'type',
          'enum',
          'const',
          'anyOf',
          '$ref',
          '$defs',
          'title',
          'oneOf',
          '__proto__',
          'constructor',
        ],
      )
      const { schema } = fc.letrec<{ schema: unknown; part: unknown }>((tie) => ({
        part: fc.oneof(
          { maxDepth: 5 },
          fc.constantFrom<unknown>(
            'string',
            'object',
            ['null', 'integer'],
            '#',
            '#/$defs/a',
            '^(a+)+$',
            'date-time',
          ),
          fc.oneof(fc.nat(200_000), fc.double(), fc.boolean(), fc.constant(null)),
          fc.constantFrom<unknown>({ toString: 1, valueOf: 1 }, [[]], '('),
          fc.string({ maxLength: 40 }),
          tie('schema'),
          fc.array(tie('schema'), { maxLength: 4 }),
          fc.dictionary(fc.string({ maxLength: 8 }), tie('schema'), { maxKeys: 4 }),
        ),
        schema: fc.dictionary(keyword, tie('part'), { maxKeys: 4 }),
      }))
      let executions = 0
      let accepted = 0
      fc.assert(
        fc.property(schema, (value) => {
          executions += 1
          // As a client sends it: a member named __proto__ is one.
          const sent: unknown = JSON.parse(JSON.stringify(value))
          const grammar = outcome(() => schemaToGrammar(sent, 'schema'))
          if (grammar === null) return
          accepted += 1
          expect(Buffer.byteLength(grammar)).toBeLessThan(GRAMMAR_BYTES_MAX + 4096)
          expect(grammar).toMatch(/^root ::= /)
        }),
        fuzzParameters(1500, SHARE),
      )
      expect(accepted).toBeGreaterThan(0)
      expect(accepted).toBeLessThan(executions)
      reportFuzz('JSON schema', { seed: FUZZ_SEED, executions, accepted })
    },
    FUZZ_TIMEOUT_MS,
  )
})
