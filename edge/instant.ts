/** A moment as queries name one; ISO 8601 without a zone is UTC. */
import { z } from 'zod'

const ISO = /^\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?)?)?$/

/** Exclusive: years of five digits are written in another form, which no database reads. */
export const INSTANT_MS_MAX = Date.UTC(9999, 0)

/** `2026-11-01`, `2026-11-01T08:00:00Z`, or Unix seconds as OpenAI's usage API takes them. */
export const instant = z
  .string()
  .transform(toDate)
  .refine(
    // False for no date, too.
    (date) => date.getTime() < INSTANT_MS_MAX,
    'must be a UTC date such as 2026-11-01, a time such as 2026-11-01T08:00:00Z, or Unix seconds',
  )

function toDate(text: string): Date {
  if (/^\d{1,12}$/.test(text)) return new Date(Number(text) * 1000)
  const iso = ISO.exec(text)
  if (iso === null || !isDay(text.slice(0, 10))) return new Date(Number.NaN)
  const isLocal = text.includes('T') && iso[1] === undefined
  return new Date(isLocal ? `${text}Z` : text)
}

/** False for 30 February, which Date takes for 2 March. */
function isDay(day: string): boolean {
  const date = new Date(day)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day)
}
