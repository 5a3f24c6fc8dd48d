import { expect, it } from 'vitest'
import { formatLogLine } from './log-line.ts'

it('is one line without control signs, and reads as the record was', () => {
  const record = {
    message: 'a\r\nb',
    path: '/\u001b[31m\u007f\u0085\u009b2J\u2028\u2029\u202e\u2066x',
    'a\u009bkey': 'é 你好 👍',
    status: 200,
  }
  const line = formatLogLine(record)
  expect(line).toMatch(/^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]+$/u)
  expect(line).toContain('é 你好 👍')
  expect(JSON.parse(line)).toEqual(record)
})
