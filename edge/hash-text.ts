/** 32-bit hashes of texts that every edge agrees on; for shares and orders, not for secrets. */

const START = 0x811c_9dc5

/** FNV-1a; `from`: the hash of what stands before the text. */
export function hashText(text: string, from = START): number {
  let hash = from
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193)
  }
  return hash >>> 0
}

/** Spreads what similar texts have apart over all bits. */
export function mixBits(bits: number): number {
  let hash = Math.imul(bits ^ (bits >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Of several texts; the line break keeps ('ab', 'c') and ('a', 'bc') apart. */
export function hashTexts(...texts: readonly string[]): number {
  return mixBits(texts.reduce((hash, text) => hashText(`${text}\n`, hash), START))
}
