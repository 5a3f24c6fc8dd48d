/**
 * Which adapters that queued requests wait for are in RAM by now. One prefetch per adapter, however
 * many requests wait; forgotten when the last of them has left the queue. Those that must come from
 * disk or store take a few places in turn, in the queue's fair order: a tenant that asks for many
 * cold adapters at once is no reason for others to wait.
 */
import type { AdapterPort } from './adapter-port.ts'
import type { Admission, QueuedRequest } from './admission.ts'

/** A queued request, as far as its adapter goes; null = base model alone. */
export type AdapterRequest = QueuedRequest & { readonly digest: string | null }

interface Entry {
  waiting: number
  state: 'wanted' | 'fetching' | 'ready'
  /** Ends the adapter's protection from eviction. */
  readonly endWait: () => void
}

/** As many as the tiers below fetch at once; more would only decide the order too early. */
const FETCHES_MAX = 4
/** Queued requests looked at to find whose adapter is next. */
const LOOKAHEAD_MAX = 256
/** Requests whose adapters may go ahead of them into slots that nobody needs. */
const STAGED_MAX = 2

export class AdapterReadiness<T extends AdapterRequest> {
  readonly #adapters: AdapterPort
  readonly #queue: Pick<Admission<T>, 'fairOrder'>
  readonly #onReady: () => void
  readonly #onFailed: (digest: string, error: unknown) => void
  readonly #entries = new Map<string, Entry>()
  #fetching = 0

  constructor(
    adapters: AdapterPort,
    queue: Pick<Admission<T>, 'fairOrder'>,
    events: { onReady: () => void; onFailed: (digest: string, error: unknown) => void },
  ) {
    this.#adapters = adapters
    this.#queue = queue
    this.#onReady = events.onReady
    this.#onFailed = events.onFailed
  }

  /** Returns the matching leave, to be called once. */
  join(digest: string): () => void {
    let entry = this.#entries.get(digest)
    if (entry === undefined) {
      entry = { waiting: 0, state: 'wanted', endWait: this.#adapters.wait(digest) }
      this.#entries.set(digest, entry)
      const tier = this.#adapters.locate(digest)
      if (tier === 'slot' || tier === 'ram') void this.#prefetch(digest, entry)
    }
    const joined = entry
    joined.waiting += 1
    return () => {
      joined.waiting -= 1
      if (joined.waiting === 0) this.#forget(digest, joined)
    }
  }

  /** Up to `countMax` queued requests that could start, as far as their adapters go, in order. */
  ready(countMax: number): T[] {
    return this.#queue.fairOrder(({ digest }) => this.#isIn(digest, 'ready'), countMax)
  }

  /** Starts fetches while there are places. */
  fetch(): void {
    while (this.#fetching < FETCHES_MAX) {
      const digest = this.#nextWanted()
      const entry = digest === null ? undefined : this.#entries.get(digest)
      if (digest === null || entry === undefined) return
      this.#fetching += 1
      void this.#prefetch(digest, entry).finally(() => {
        this.#fetching -= 1
        this.fetch()
      })
    }
  }

  /** For when no sequence is free: the next adapters use the time to get into slots. */
  stage(): void {
    for (const { digest } of this.ready(STAGED_MAX)) {
      if (digest !== null) this.#adapters.stage(digest)
    }
  }

  #nextWanted(): string | null {
    const isWanted = ({ digest }: T): boolean => digest !== null && this.#isIn(digest, 'wanted')
    const [any] = this.#queue.fairOrder(isWanted, 1)
    if (any === undefined) return null
    // Among all: what a tenant has on its way counts, though it has not run yet.
    const first = this.#queue.fairOrder(() => true, LOOKAHEAD_MAX).find(isWanted)
    return (first ?? any).digest
  }

  #isIn(digest: string | null, state: Entry['state']): boolean {
    return digest === null || this.#entries.get(digest)?.state === state
  }

  async #prefetch(digest: string, entry: Entry): Promise<void> {
    entry.state = 'fetching'
    try {
      await this.#adapters.prefetch(digest)
      entry.state = 'ready'
      this.#onReady()
    } catch (error) {
      // Whoever comes later gets a try of its own.
      this.#forget(digest, entry)
      this.#onFailed(digest, error)
    }
  }

  #forget(digest: string, entry: Entry): void {
    entry.endWait()
    if (this.#entries.get(digest) === entry) this.#entries.delete(digest)
  }
}
