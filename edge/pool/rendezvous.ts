/**
 * Rendezvous hashing: every key scores every host, and its hosts are those with the highest scores.
 * Each edge finds the same without talking, a host that joins takes its share of the keys from all
 * others, and one that leaves gives away its own alone.
 */

import { mixBits } from '../hash-text.ts'

export const SCORE_MAX = 2 ** 32

/** Of two hashed names; 0 … 2³² − 1. All bits are mixed, so that similar names score apart. */
export function rendezvousScore(keyHash: number, hostHash: number): number {
  return mixBits(keyHash ^ Math.imul(hostHash ^ (hostHash >>> 15), 0x2c1b_3c6d))
}
