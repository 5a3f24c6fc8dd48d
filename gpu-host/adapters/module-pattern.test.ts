import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseModulePattern } from './module-pattern.ts'

const NAME = 'model.layers.12.self_attn.q_proj'

describe('module patterns', () => {
  it.each([
    ['q_proj', true],
    ['proj', false],
    ['self_attn.q_proj', true],
    ['attn.q_proj', false],
    ['^model.layers.12.self_attn.q_proj', true],
    ['^q_proj', false],
    ['layers\\.\\d+\\..*', true],
    ['layers\\.[0-9]\\..*', false],
    ['.*layers.1.*q_proj$', true],
    ['(q|k)_proj', true],
    ['(?:v|k)_proj', false],
    ['(self_)?attn.q_proj', true],
    ['(other_)?attn.q_proj', false],
    ['\\w+', true],
  ])('matches %s as a suffix: %s', (pattern, isMatch) => {
    expect(parseModulePattern(pattern)?.matchesSuffix(NAME)).toBe(isMatch)
  })

  it('agrees with the regex of the same text', () => {
    const atom = fc.constantFrom(
      'a',
      'b',
      '.',
      '\\.',
      '\\d',
      '[ab]',
      '[^a]',
      '(a|b)',
      '(?:a.|b)',
      '1',
    )
    const part = fc.tuple(atom, fc.constantFrom('', '', '*', '+', '?', '*?')).map(([a, q]) => a + q)
    const pattern = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join(''))
    const either = fc.oneof(
      pattern,
      fc.tuple(pattern, pattern).map(([a, b]) => `${a}|${b}`),
    )
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '.', '1'), maxLength: 8 })
    fc.assert(
      fc.property(either, name, (text, subject) => {
        const found = parseModulePattern(text)
        const isWhole = new RegExp(`^(?:${text})$`).test(subject)
        const isSuffix = new RegExp(`^(.*\\.)?(${text})$`).test(subject)
        return found?.matchesWhole(subject) === isWhole && found.matchesSuffix(subject) === isSuffix
      }),
      { numRuns: 2000 },
    )
  })

  it('ends on patterns that would keep a backtracking engine busy for ever', () => {
    const name = `${'a'.repeat(60)}!`
    // Each level of these doubles, or multiplies by the name's length, what a naive closure does.
    const deep = `${'('.repeat(80)}a${')*'.repeat(80)}b`
    const mixed = `${'('.repeat(40)}a*${'b*)*'.repeat(40)}c`
    for (const text of ['(a+)+b', '(a|aa|a?)+b', `${'a*'.repeat(100)}b`, deep, mixed]) {
      expect(parseModulePattern(text)?.matchesWhole(name)).toBe(false)
    }
    expect(parseModulePattern(deep)?.matchesWhole('aaab')).toBe(true)
  })

  it.each([
    '',
    '(',
    'a)',
    'a)(b',
    '[',
    '[z-a]',
    '(?=a)',
    '(?!a)',
    'a{2}',
    '*a',
    'a**',
    '^*',
    '\\1',
    'a b',
  ])('refuses %j, which is beyond the subset', (text) => {
    expect(parseModulePattern(text)).toBeNull()
  })

  it('refuses a pattern that is too long', () => {
    expect(parseModulePattern('a'.repeat(257))).toBeNull()
  })
})
