import { describe, expect, it } from 'vitest'
import { findProtoMember } from './proto-member.ts'

const find = (text: string): string | null => findProtoMember(text, JSON.parse(text))

describe('findProtoMember', () => {
  it.each([
    ['{"__proto__":1}', '__proto__'],
    ['{"a":[{"b":1},{"__proto__":{}}]}', 'a.1.__proto__'],
    ['{"a":{"\\u005f_prot\\u006f__":null}}', 'a.__proto__'],
    ['[[[{"__proto__":[]}]]]', '0.0.0.__proto__'],
  ])('finds the one in %s', (text, path) => {
    expect(find(text)).toBe(path)
  })

  it.each([
    '{"a":"__proto__"}',
    '["__proto__"]',
    '{"__proto":1,"proto__":"\\u0000"}',
    'null',
    '1',
    '{"constructor":{}}',
  ])('finds none in %s', (text) => {
    expect(find(text)).toBeNull()
  })
})
