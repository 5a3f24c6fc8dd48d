/**
 * Rendezvous hashing: every key scores every host, and its hosts are those with the highest scores.
 * Each edge finds the same without talking, a host that joins takes its share of the keys from all
 * others, and one that leaves gives away its own alone.
 */

/** 32 bits of a text (FNV-1a). */
export function hashText(text: string): number {
  let hash = 0x811c_9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x0100_0193)
  }
  return hash >>> 0
}

export const SCORE_MAX = 2 ** 32

/** Of two hashed names; 0 … 2³² − 1. All bits are mixed, so that similar names score apart. */
export function rendezvousScore(keyHash: number, hostHash: number): number {
  let hash = keyHash ^ Math.imul(hostHash ^ (hostHash >>> 15), 0x2c1b_3c6d)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2_ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
