import { expect, it } from 'vitest'
import { createOutput } from './output.ts'
import { toPrintable } from './printable.ts'

it('shows what would drive a terminal, and leaves all else', () => {
  expect(toPrintable('a\u001b]0;title\u0007b\rc\u009b2Jd\u202ee')).toBe(
    'a\\u001b]0;title\\u0007b\\u000dc\\u009b2Jd\\u202ee',
  )
  const harmless = 'Zeilen\n\tund Grüße 你好 👩‍👩‍👧'
  expect(toPrintable(harmless)).toBe(harmless)
})

it('is what a model’s answer goes through on a terminal, and not into a pipe', () => {
  for (const isTTY of [true, false]) {
    let shown = ''
    const stdout = { isTTY, write: (text: string) => (shown += text) }
    createOutput(false, stdout, stdout).piece('\u001b[2Jdone')
    expect(shown).toBe(isTTY ? '\\u001b[2Jdone' : '\u001b[2Jdone')
  }
})
