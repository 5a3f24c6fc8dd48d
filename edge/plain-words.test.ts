import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { instant } from './instant.ts'
import { parseValue } from './read-body.ts'

const schema = z.strictObject({
  text: z.string().max(3).optional(),
  count: z.coerce.number().int().min(1).max(9).optional(),
  share: z.number().gt(0).lt(1).optional(),
  rows: z.int().optional(),
  isOn: z.boolean().optional(),
  list: z.array(z.string()).min(1).optional(),
  object: z.object({ name: z.string() }).optional(),
  choice: z.enum(['a', 'b']).optional(),
  textOrList: z.union([z.string(), z.array(z.int())]).optional(),
  format: z.discriminatedUnion('type', [z.object({ type: z.literal('t') })]).optional(),
  byNumber: z.record(z.string().regex(/^\d+$/), z.int()).optional(),
  code: z.string().regex(/^c\d$/).optional(),
  own: z.string('must be just so').optional(),
})

function refusal(parsed: () => unknown): unknown {
  try {
    return parsed()
  } catch (error) {
    return error
  }
}

describe('parseValue', () => {
  it.each<[object, string, string]>([
    [{ text: 5 }, 'text', 'text: must be text'],
    [{ text: 'four' }, 'text', 'text: must have at most 3 characters'],
    [{ count: 'x' }, 'count', 'count: must be a whole number'],
    [{ count: '1.5' }, 'count', 'count: must be a whole number'],
    [{ count: '0' }, 'count', 'count: must be at least 1'],
    [{ count: '10' }, 'count', 'count: must be at most 9'],
    [{ share: 0 }, 'share', 'share: must be more than 0'],
    [{ share: 1 }, 'share', 'share: must be less than 1'],
    [{ rows: 1.5 }, 'rows', 'rows: must be a whole number'],
    [{ isOn: 'yes' }, 'isOn', 'isOn: must be true or false'],
    [{ list: {} }, 'list', 'list: must be a list'],
    [{ list: [] }, 'list', 'list: must have at least 1 item'],
    [{ object: [] }, 'object', 'object: must be an object'],
    [{ object: {} }, 'object.name', 'object.name: is needed'],
    [{ choice: 'c' }, 'choice', 'choice: must be one of a, b'],
    [{ textOrList: 5 }, 'textOrList', 'textOrList: must be text or a list'],
    [{ textOrList: [1, 'x'] }, 'textOrList', 'textOrList: 1 must be a whole number'],
    [{ format: { type: 'x' } }, 'format.type', 'format.type: must be t'],
    [
      { byNumber: { x: 1 } },
      'byNumber.x',
      'byNumber.x: is not a valid key: it must match /^\\d+$/',
    ],
    [{ code: 'd1' }, 'code', 'code: must match /^c\\d$/'],
    [{ own: 5 }, 'own', 'own: must be just so'],
  ])('says of %j what the field must be', (value, param, message) => {
    expect(refusal(() => parseValue(schema, value))).toMatchObject({ param, message })
  })

  it('says which field is needed, also where a number is made of its text', () => {
    const needed = z.object({ at: z.coerce.number().int(), kind: z.enum(['a']) })
    expect(refusal(() => parseValue(needed, {}))).toMatchObject({ message: 'at: is needed' })
    const rest = refusal(() => parseValue(needed, { at: '1' }))
    expect(rest).toMatchObject({ param: 'kind', message: 'kind: is needed' })
  })

  it('names an unknown field, and those that there are', () => {
    const small = z.strictObject({ requests: z.int(), tokens: z.int().optional() })
    expect(refusal(() => parseValue(small, { requests: 1, rpm: 5 }))).toMatchObject({
      param: 'rpm',
      message: '"rpm" is not a field; the fields are requests, tokens',
    })
  })

  it.each([[null], [[]], ['text']])('says of %j that the body must be an object', (value) => {
    const error = refusal(() => parseValue(schema, value))
    expect(error).toMatchObject({ param: null, message: 'body: must be an object' })
  })
})

describe('instant', () => {
  it.each([
    ['2026-11-01', '2026-11-01T00:00:00.000Z'],
    ['2026-11-01T08:30', '2026-11-01T08:30:00.000Z'],
    ['2026-11-01T08:30:00.5Z', '2026-11-01T08:30:00.500Z'],
    ['2026-11-01T08:30:00+02:00', '2026-11-01T06:30:00.000Z'],
    ['1793491200', '2026-11-01T00:00:00.000Z'],
  ])('reads %s, in UTC whatever the machine has', (text, expected) => {
    expect(parseValue(instant, text).toISOString()).toBe(expected)
  })

  it.each(['', 'today', '1 Nov 2026', '2026-02-30', '2026-13-01', '2026-11-01T25:00Z'])(
    'refuses "%s"',
    (text) => {
      const message = expect.stringContaining('must be a UTC date such as 2026-11-01')
      expect(refusal(() => parseValue(instant, text))).toMatchObject({ message })
    },
  )
})
