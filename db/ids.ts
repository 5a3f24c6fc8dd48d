/**
 * Ids of rows: a prefix that says what it names, and a ULID (github.com/ulid/spec) in lower case:
 * 48 bits of time, then 80 random bits, so that ids sort by when they were made. WebCrypto only,
 * so that a Worker, Node and a test make the same kind of id.
 */

export type IdPrefix =
  | 'ten'
  | 'key'
  | 'mod'
  | 'ver'
  | 'dep'
  | 'prc'
  | 'led'
  | 'req'
  | 'aud'
  | 'lea'
  | 'edg'
  | 'inv'

/** Crockford's base 32: 32 signs, so five bits choose one without bias; none looks like another. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const TIME_SIGNS = 10
const RANDOM_SIGNS = 16
/** Ids of before they carried a time were random throughout: those say a time out of this range. */
const TIME_MS_MIN = Date.UTC(2025, 0)
const TIME_MS_MAX = Date.UTC(2100, 0)

/** `<prefix>_<26 characters>`. */
export function createId<P extends IdPrefix>(prefix: P, nowMs = Date.now()): `${P}_${string}` {
  let text = ''
  for (const byte of crypto.getRandomValues(new Uint8Array(RANDOM_SIGNS))) {
    text += ALPHABET.charAt(byte & 31)
  }
  return `${prefix}_${timeSigns(nowMs)}${text}`
}

/** The smallest characters after the prefix that an id made at `ms` or later can have. */
export function timeSigns(ms: number): string {
  let text = ''
  for (let rest = Math.floor(ms), i = 0; i < TIME_SIGNS; i++, rest = Math.floor(rest / 32)) {
    text = ALPHABET.charAt(rest % 32) + text
  }
  return text
}

/** When the id was made, Unix milliseconds; null when it does not say. */
export function idTimeMs(id: string): number | null {
  const [, signs] = /^[a-z]+_([0-9a-hjkmnp-tv-z]{10})[0-9a-hjkmnp-tv-z]{16}$/.exec(id) ?? []
  if (signs === undefined) return null
  let ms = 0
  for (const sign of signs) ms = ms * 32 + ALPHABET.indexOf(sign)
  return ms >= TIME_MS_MIN && ms < TIME_MS_MAX ? ms : null
}
