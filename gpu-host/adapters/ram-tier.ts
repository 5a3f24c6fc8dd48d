/**
 * Adapters in host RAM, each payload one contiguous piece; bounded, least recently used first out.
 */
import type { AdapterImage } from '../engine.ts'

export class RamTier {
  readonly #bytesMax: number
  /** Least recently used first. */
  readonly #images = new Map<string, AdapterImage>()
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
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

  /** One that is larger than the whole tier is not kept, and evicts nothing. */
  put(image: AdapterImage): void {
    const { digest } = image.manifest
    this.#delete(digest)
    const bytes = image.payload.length
    if (bytes > this.#bytesMax) return
    this.#images.set(digest, image)
    this.#bytes += bytes
    for (const oldest of this.#images.keys()) {
      if (this.#bytes <= this.#bytesMax) break
      this.#delete(oldest)
    }
  }

  #delete(digest: string): void {
    const image = this.#images.get(digest)
    if (image === undefined) return
    this.#images.delete(digest)
    this.#bytes -= image.payload.length
  }
}
