/**
 * Ids of rows: a prefix that says what it names, and 128 random bits. WebCrypto only, so that a
 * Worker, Node and a test make the same kind of id.
 */

export type IdPrefix = 'ten' | 'key' | 'mod' | 'ver' | 'dep' | 'prc' | 'led' | 'req' | 'aud'

/** Crockford's base 32: 32 signs, so five bits choose one without bias; none looks like another. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
const LENGTH = 26

/** `<prefix>_<26 characters>`. */
export function createId<P extends IdPrefix>(prefix: P): `${P}_${string}` {
  const bytes = crypto.getRandomValues(new Uint8Array(LENGTH))
  let text = ''
  for (const byte of bytes) text += ALPHABET.charAt(byte & 31)
  return `${prefix}_${text}`
}
