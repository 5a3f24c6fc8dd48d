/**
 * Digests on Node, at once: its WebCrypto passes each to a thread of its pool and back, which takes
 * longer than the digest of a request does, and waits for a core where they are all busy.
 */
import { createHash, createHmac, createSecretKey } from 'node:crypto'
import type { Digests } from './digests.ts'

export const nodeDigests: Digests = {
  sha256: (text) => createHash('sha256').update(text).digest(),
  hmac(secret) {
    const key = createSecretKey(secret)
    return (text) => createHmac('sha256', key).update(text).digest()
  },
}
