/**
 * Adapters in host RAM, each payload one contiguous piece; bounded in bytes. What goes first is
 * said by the caller; without a word, and among equals, the least recently used.
 */
import type { AdapterImage, Engine } from '../engine.ts'

/** What is told which payloads stay. */
export type PayloadMemory = Pick<Engine, 'pin' | 'unpin'>

export class RamTier {
  readonly #bytesMax: number
  readonly #memory: PayloadMemory | null
  /** Least recently used first. */
  readonly #images = new Map<string, AdapterImage>()
  #bytes = 0

  constructor(bytesMax: number, memory: PayloadMemory | null = null) {
    this.#bytesMax = bytesMax
    this.#memory = memory
  }

  get bytes(): number {
    return this.#bytes
  }

  has(digest: string): boolean {
    return this.#images.has(digest)
  }

  digests(): IterableIterator<string> {
    return this.#images.keys()
  }

  get(digest: string): AdapterImage | null {
    const image = this.#images.get(digest)
    if (image === undefined) return null
    this.#images.delete(digest)
    this.#images.set(digest, image)
    return image
  }

  /**
   * One that is larger than the whole tier is not kept, and evicts nothing. `worthOf` rates what is
   * held already, per byte; the lowest goes first.
   */
  put(image: AdapterImage, worthOf: (digest: string) => number = () => 0): void {
    const { digest } = image.manifest
    this.#delete(digest)
    const bytes = image.payload.length
    if (bytes > this.#bytesMax) return
    while (this.#bytes + bytes > this.#bytesMax) this.#delete(this.#pickVictim(worthOf))
    this.#images.set(digest, image)
    this.#bytes += bytes
    this.#memory?.pin(image.payload)
  }

  #pickVictim(worthOf: (digest: string) => number): string {
    let victim = ''
    let least = Number.POSITIVE_INFINITY
    for (const [digest, { payload }] of this.#images) {
      const worth = worthOf(digest) / payload.length
      if (victim !== '' && worth >= least) continue
      victim = digest
      least = worth
    }
    return victim
  }

  #delete(digest: string): void {
    const image = this.#images.get(digest)
    if (image === undefined) return
    this.#images.delete(digest)
    this.#bytes -= image.payload.length
    void this.#memory?.unpin(image.payload)
  }
}
