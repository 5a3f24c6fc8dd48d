import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { createOutput, formatBytes, formatTable, quoteForShell } from './output.ts'

function capture(isJson: boolean) {
  const written = { stdout: '', stderr: '' }
  const output = createOutput(
    isJson,
    { write: (text: string) => (written.stdout += text) },
    { write: (text: string) => (written.stderr += text) },
  )
  return { output, written }
}

describe('createOutput', () => {
  it('keeps notes off stdout', () => {
    const { output, written } = capture(false)
    output.note('uploading')
    output.data({ a: 1 }, 'a is 1')
    expect(written).toEqual({ stdout: 'a is 1\n', stderr: 'uploading\n' })
  })

  it('prints one JSON document, big integers as text, and no pieces', () => {
    const { output, written } = capture(true)
    output.piece('streamed')
    output.data({ cost_pusd: 2n ** 60n }, 'unused')
    expect(JSON.parse(written.stdout)).toEqual({ cost_pusd: '1152921504606846976' })
  })
})

describe('formatTable', () => {
  it('aligns text to the left and numbers to the right', () => {
    const table = formatTable(
      ['NAME', 'COUNT'],
      [
        ['a', 1],
        ['long-name', 12345678],
      ],
    )
    expect(table.split('\n')).toEqual([
      'NAME          COUNT',
      'a                 1',
      'long-name  12345678',
    ])
  })

  it('says that there is nothing', () => {
    expect(formatTable(['NAME'], [])).toBe('(none)')
  })
})

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [4_938_648, '4.94 MB'],
    [93_000_000, '93.0 MB'],
  ])('%d → %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text)
  })
})

describe('quoteForShell', () => {
  it.each(['/plain/path-1.txt', '/with space', "it's", '$HOME `id` "x" \\ *', ''])(
    'comes out of a shell unchanged: %j',
    (text) => {
      const printed = execFileSync('sh', ['-c', `printf %s ${quoteForShell(text)}`])
      expect(printed.toString()).toBe(text)
    },
  )
})
