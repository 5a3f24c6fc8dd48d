/**
 * Which adapters that queued requests wait for are in RAM by now. One prefetch per adapter, however
 * many requests wait; forgotten when the last of them has left the queue.
 */
import type { AdapterPort } from './adapter-port.ts'

interface Entry {
  waiting: number
  isReady: boolean
}

export class AdapterReadiness {
  readonly #adapters: AdapterPort
  readonly #onReady: () => void
  readonly #onFailed: (digest: string, error: unknown) => void
  readonly #entries = new Map<string, Entry>()

  constructor(
    adapters: AdapterPort,
    events: { onReady: () => void; onFailed: (digest: string, error: unknown) => void },
  ) {
    this.#adapters = adapters
    this.#onReady = events.onReady
    this.#onFailed = events.onFailed
  }

  /** Returns the matching leave, to be called once. */
  join(digest: string): () => void {
    let entry = this.#entries.get(digest)
    if (entry === undefined) {
      entry = { waiting: 0, isReady: false }
      this.#entries.set(digest, entry)
      this.#prefetch(digest, entry)
    }
    const joined = entry
    joined.waiting += 1
    return () => {
      joined.waiting -= 1
      if (joined.waiting === 0) this.#forget(digest, joined)
    }
  }

  isReady(digest: string | null): boolean {
    return digest === null || this.#entries.get(digest)?.isReady === true
  }

  #prefetch(digest: string, entry: Entry): void {
    this.#adapters.prefetch(digest).then(
      () => {
        entry.isReady = true
        this.#onReady()
      },
      (error: unknown) => {
        // Whoever comes later gets a try of its own.
        this.#forget(digest, entry)
        this.#onFailed(digest, error)
      },
    )
  }

  #forget(digest: string, entry: Entry): void {
    if (this.#entries.get(digest) === entry) this.#entries.delete(digest)
  }
}
