import { expect, it } from 'vitest'
import { formatCsv } from './csv.ts'

it('quotes what would break a row, and tells no value from an empty text', () => {
  const rows = [
    ['plain', 'a,b', 'say "hi"'],
    [null, '', 'two\r\nlines'],
  ]
  expect(formatCsv(['A', 'B', 'C'], rows)).toBe(
    'A,B,C\r\nplain,"a,b","say ""hi"""\r\n,"","two\r\nlines"\r\n',
  )
})

it('has a header alone where there are no rows', () => {
  expect(formatCsv(['A', 'B'], [])).toBe('A,B\r\n')
})
