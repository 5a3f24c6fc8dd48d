/** A 32-bit hash of texts that every edge agrees on; for shares and orders, not for secrets. */

/** FNV-1a over the texts, then a mix of all bits, so that similar texts come out far apart. */
export function hashTexts(...texts: readonly string[]): number {
  let hash = 0x811c_9dc5
  for (const text of texts) {
    // The line break keeps ('ab', 'c') and ('a', 'bc') apart.
    for (let i = 0; i <= text.length; i++) {
      hash = Math.imul(hash ^ (i < text.length ? text.charCodeAt(i) : 10), 0x0100_0193)
    }
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
