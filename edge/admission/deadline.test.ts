import { describe, expect, it } from 'vitest'
import { readDeadline, remainingDeadline } from './deadline.ts'

const read = (headers: Readonly<Record<string, string>>) => readDeadline((name) => headers[name])

describe('deadline', () => {
  it('is what the client says, then what its SDK does', () => {
    expect(read({ 'x-nozzle-deadline-ms': '1500', 'x-stainless-timeout': '600' })).toBe(1500)
    expect(read({ 'x-stainless-timeout': '600' })).toBe(600_000)
    expect(read({ 'x-stainless-timeout': '0.25' })).toBe(250)
    expect(read({ 'x-stainless-timeout': '86400' })).toBe(3_600_000)
    expect(read({})).toBeNull()
  })

  it.each(['', '0', '-1', '1.5', '1e3', 'soon', '3600001', '99999999'])(
    'is refused by name when it is %j',
    (text) => {
      expect(() => read({ 'x-nozzle-deadline-ms': text })).toThrowError(
        expect.objectContaining({ code: 'invalid_request', param: 'x-nozzle-deadline-ms' }),
      )
    },
  )

  it.each(['', '0', '-1', 'NaN', 'read-timeout'])('is none when an SDK says %j', (text) => {
    expect(read({ 'x-stainless-timeout': text })).toBeNull()
  })

  it('leaves to the next host what the first has not used', () => {
    expect(remainingDeadline(1000, 400.5)).toBe(599)
    expect(remainingDeadline(null, 5000)).toBeNull()
    expect(remainingDeadline(1000, 2000)).toBe(0)
  })
})
