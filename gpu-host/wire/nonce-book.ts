/**
 * Nonces that were used, each for as long as its token would be let in, and a bounded number of
 * them: so each token is good for one call. Only for nonces of verified tokens: whoever has no
 * secret can fill nothing.
 */

export class NonceBook {
  readonly #noncesMax: number
  /** Nonce → second after which its token is refused anyway; oldest first. */
  readonly #used = new Map<string, number>()

  constructor(noncesMax: number) {
    this.#noncesMax = noncesMax
  }

  get size(): number {
    return this.#used.size
  }

  /**
   * `full`: too many calls within the life of a token; nothing was noted. @param untilS the token's
   * last second, skew included.
   */
  use(nonce: string, untilS: number, nowS: number): 'fresh' | 'used' | 'full' {
    for (const [known, lastS] of this.#used) {
      if (lastS >= nowS) break
      this.#used.delete(known)
    }
    if (this.#used.has(nonce)) return 'used'
    if (this.#used.size >= this.#noncesMax) return 'full'
    this.#used.set(nonce, untilS)
    return 'fresh'
  }
}
