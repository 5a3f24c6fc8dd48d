/** Answers under a grammar of tools hold calls of them, whose arguments hold their schemas. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { toRegExp } from '../../test/support/grammar-regexp.ts'
import { SampledTexts } from '../../test/support/sampled-text.ts'
import { type AnswerPiece, ToolCallReader } from './tool-call-reader.ts'
import { type GrammarTool, type ToolGrammarOptions, toolGrammar } from './tool-grammar.ts'

const schema = {
  type: 'object',
  properties: { town: { type: 'string', maxLength: 6 }, days: { enum: [1, 2, 3] } },
  required: ['town'],
  additionalProperties: false,
}
const weather: GrammarTool = { name: 'weather', parameters: schema, isStrict: true, path: 'w' }
const now: GrammarTool = { name: 'now', parameters: null, isStrict: false, path: 'n' }
const any: GrammarTool = { name: 'any', parameters: { type: 'object' }, isStrict: false, path: 'a' }

const grammarOf = (options: Partial<ToolGrammarOptions>): string =>
  toolGrammar({
    tools: [weather, now],
    isForced: false,
    isParallel: true,
    addFormat: null,
    ...options,
  })
const OSLO = '<tool_call>\n{"name": "weather", "arguments": {"town":"Oslo"}}\n</tool_call>'
const NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'

describe('a forced call', () => {
  it('is that of a tool, with arguments of its schema', () => {
    const forced = toRegExp(grammarOf({ isForced: true }))
    const wrong = [
      ...['', `Well: ${NOW}`, `${NOW} Done.`, NOW.replace('{}', '{"a":1}')],
      ...[
        NOW.replace('now', 'then'),
        OSLO.replace('"Oslo"', '7'),
        OSLO.replace(/\{"town.*?\}/, '{}'),
      ],
    ]
    for (const text of [OSLO, NOW, `${OSLO}\n${NOW}\n${OSLO}`]) expect(forced.test(text)).toBe(true)
    for (const text of wrong) expect(forced.test(text), text).toBe(false)
  })

  it('is one call where calls may not be parallel', () => {
    const single = toRegExp(grammarOf({ isForced: true, isParallel: false }))
    expect([OSLO, NOW, `${NOW}\n${NOW}`].map((text) => single.test(text))).toEqual([
      true,
      true,
      false,
    ])
  })

  it('holds the schema of a tool that is not strict', () => {
    const loose = [{ ...weather, isStrict: false }]
    expect(toRegExp(grammarOf({ tools: loose, isForced: true })).test(OSLO)).toBe(true)
    expect(() =>
      grammarOf({ tools: [{ ...any, parameters: { type: 'x' }, path: 'p' }], isForced: true }),
    ).toThrow(expect.objectContaining({ param: 'p.type' }))
  })
})

it('a JSON answer or calls, where a format is asked for', () => {
  const both = toRegExp(grammarOf({ addFormat: (rules) => rules.add('"{" gap "}"') }))
  expect(['{}', OSLO, 'Hello', `{}${OSLO}`].map((text) => both.test(text))).toEqual([
    true,
    true,
    false,
    false,
  ])
})

describe('what a model writes', () => {
  let texts: SampledTexts
  beforeAll(async () => {
    texts = await SampledTexts.open()
  })
  afterAll(() => texts.close())

  /** The next sign of a mark more than its first, and that more than the end. */
  const likely = {
    ...Object.fromEntries([...'tool_call>'].map((sign) => [sign, 9])),
    ...{ '<': 6, x: 5, '"': 9, '}': 9 },
  }
  const read = (text: string): AnswerPiece[] => {
    const reader = new ToolCallReader(new Set(['weather', 'now', 'any']))
    return [...reader.take(text), ...reader.end()]
  }
  const validates = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0])

  it('is text, and no call that is not one', async () => {
    const counts = { text: 0, call: 0, partial: 0 }
    for (let seed = 1; seed <= 120; seed++) {
      // Of other signs one, or the mark would hardly come by chance.
      const grammar = grammarOf({ tools: [weather, now, any] }).replaceAll(/\[\^<.?\]/g, '"x"')
      const text = await texts.write(grammar, seed, likely)
      if (text === null) continue
      if (/<t?o?o?l?x/.test(text)) counts.partial += 1
      for (const piece of read(text)) {
        counts[piece.kind] += 1
        if (piece.kind === 'text') expect(piece.text).not.toContain('<tool_call>')
        else if (piece.call.name === 'weather') {
          expect(validates.safeParse(JSON.parse(piece.call.arguments)).success, text).toBe(true)
        }
      }
    }
    for (const [what, count] of Object.entries(counts)) expect(count, what).toBeGreaterThan(5)
  })

  it('is calls alone where they are forced', async () => {
    let whole = 0
    for (let seed = 1; seed <= 40; seed++) {
      const text = await texts.write(grammarOf({ isForced: true }), seed)
      if (text === null) continue
      whole += 1
      const kinds = new Set(read(text).map(({ kind }) => kind))
      expect([...kinds], text).toEqual(['call'])
    }
    expect(whole).toBeGreaterThan(5)
  })
})
