/**
 * Seeded random numbers that are the same on every machine, and fast enough to fill gigabytes of
 * weights. Each tensor draws from its own stream, so adding one leaves the others as they were.
 */
import { toHalfBits } from './half.ts'

/** Standard deviation of the uniform distribution on −1 … 1 is 1/√3. */
const UNIFORM_SPREAD = Math.sqrt(3)

export class Random {
  #state: number

  /** Equal names give equal streams. */
  constructor(...name: readonly (string | number)[]) {
    let hash = 0x811c_9dc5
    for (const character of name.join('/')) {
      hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x0100_0193)
    }
    // Xorshift never leaves zero.
    this.#state = hash === 0 ? 1 : hash
    for (let i = 0; i < 8; i++) this.word()
  }

  /** 32 random bits as an unsigned integer. */
  word(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x
    return x >>> 0
  }

  fraction(): number {
    return this.word() / 2 ** 32
  }

  integer(below: number): number {
    return Math.floor(this.fraction() * below)
  }

  fillWords(out: Uint32Array): void {
    let x = this.#state
    for (let i = 0; i < out.length; i++) {
      x ^= x << 13
      x ^= x >>> 17
      x ^= x << 5
      out[i] = x
    }
    this.#state = x
  }

  /** Uniform values around zero with the given standard deviation. */
  fillSingles(out: Float32Array, deviation: number): void {
    const limit = deviation * UNIFORM_SPREAD
    for (let i = 0; i < out.length; i++) out[i] = (this.fraction() * 2 - 1) * limit
  }

  /** The same distribution in binary16. */
  fillHalves(out: Uint16Array, deviation: number): void {
    const limit = deviation * UNIFORM_SPREAD
    const values = new Uint16Array(4096)
    for (let i = 0; i < values.length; i++) {
      values[i] = toHalfBits(((i + 0.5) / 2048 - 1) * limit)
    }
    for (let i = 0; i < out.length; i++) out[i] = values[this.word() >>> 20] ?? 0
  }
}
