import { expect, it } from 'vitest'
import { instant } from './instant.ts'

const timeOf = (text: string): string | null => instant.safeParse(text).data?.toISOString() ?? null

it.each([
  ['2026-11-01', '2026-11-01T00:00:00.000Z'],
  ['2026-11-01T08:00', '2026-11-01T08:00:00.000Z'],
  ['2026-11-01T08:00:00+02:00', '2026-11-01T06:00:00.000Z'],
  ['1793491200', '2026-11-01T00:00:00.000Z'],
  ['2026-02-30', null],
  ['soon', null],
  // Years of five digits, which a database reads in another form.
  ['999999999999', null],
  ['9999-12-31T23:59:59-12:00', null],
])('%s is %s', (text, time) => expect(timeOf(text)).toBe(time))
