import { describe, expect, it } from 'vitest'
import { parseReportQuery } from './organization-query.ts'

const NOW_MS = Date.UTC(2026, 10, 27)
const parse = (query: string) =>
  parseReportQuery('costs', new URL(`http://edge.test/costs?${query}`), NOW_MS)

describe('parseReportQuery', () => {
  it('goes on where a page ended', () => {
    const { start, nextPage } = parse('start_time=0&limit=2')
    expect([start.getTime(), nextPage]).toEqual([0, 'page_172800'])
    expect(parse('start_time=0&limit=2&page=page_172800').start.getTime()).toBe(172_800_000)
  })

  it('refuses times that a database cannot read, and pages that begin there', () => {
    const param = (name: string) =>
      expect.objectContaining({ code: 'invalid_request', param: name })
    expect(() => parse('start_time=0&page=page_465008697428')).toThrow(param('page'))
    expect(() => parse('start_time=253402300799')).toThrow(param('start_time'))
    const last = parse('start_time=253370700000&end_time=253370764800')
    expect(last.end.toISOString()).toBe('9999-01-01T00:00:00.000Z')
  })
})
