/**
 * What the database said of something, remembered: believed without asking for a while, and while
 * the database is away for as long as OutageWindow allows. What is asked for again in the second
 * half of that while is looked up beside the request, so that nobody waits for what is in use, and
 * it gets no older than without that. Many who ask for the same at once are one question: the
 * others look now and then whether it is answered. Holds values, never promises: in workerd one
 * request must not wait for what another one started.
 */
import { withinTime } from '#db/within-time.ts'
import { databaseUnavailable, toEdgeError } from './errors.ts'
import type { KeepAlive } from './keep-alive.ts'
import {
  ASK_PAUSE_MS,
  ASK_WAIT_MS_MAX,
  CACHE_ENTRIES_MAX,
  LOOKUP_MS_MAX,
  LOOKUP_WAIT_MS,
  OUTAGE_RETRY_MS,
} from './limits.ts'
import { OutageWindow, type OutageWindowOptions } from './outage-window.ts'

/** `nowMs` monotonic: a clock that is set must not lengthen a life. */
export interface LookupCacheOptions extends OutageWindowOptions {
  /** How long an answer is believed without asking again. */
  readonly ttlMs: number
  readonly entriesMax?: number
}

interface Entry<V> {
  readonly value: V
  /** When the database was asked. */
  readonly askedMs: number
  /** Until then a look-up that failed is not tried again. */
  retryMs: number
  /** From then on it is looked up beside the requests. */
  refreshMs: number
}

/** Where an answer came from; `stale` = from memory, since the database did not answer. */
export type LookupSource = 'cache' | 'database' | 'stale'

export interface Lookup<V> {
  readonly value: V
  readonly from: LookupSource
}

export class LookupCache<V> {
  readonly #options: LookupCacheOptions
  /** Oldest first, since an entry that is set again is moved to the end. */
  readonly #entries = new Map<string, Entry<V>>()
  /** Key → since when the database is being asked. An asker that vanishes leaves its entry. */
  readonly #asking = new Map<string, { readonly sinceMs: number }>()
  /** Grows with each change that this edge makes itself: what was asked before it is not kept. */
  #changes = 0
  readonly #outage: OutageWindow

  constructor(options: LookupCacheOptions) {
    this.#options = options
    this.#outage = new OutageWindow(options)
  }

  /**
   * What `look` finds, or what it found before; null, which is not remembered, when there is
   * nothing. Throws `database_unavailable` when the database does not answer and what is known is
   * not enough. @param keepAlive of the request; absent = nothing goes on beside it.
   */
  async find(
    key: string,
    look: () => Promise<V | null>,
    keepAlive?: KeepAlive,
  ): Promise<Lookup<V> | null> {
    const known = this.#known(key)
    if (known !== null) {
      if (keepAlive !== undefined) this.#refresh(key, look, keepAlive)
      return known
    }
    const asker = this.#asking.get(key)
    if (asker !== undefined) {
      await this.#waitFor(asker, key)
      const answered = this.#known(key)
      if (answered !== null) return answered
    }
    const entry = this.#entries.get(key)
    const startMs = this.#options.nowMs()
    const lookup = this.#look(key, look, startMs)
    try {
      const isKnown = entry !== undefined && this.#outage.covers(entry.askedMs)
      const found = await withinTime(lookup, isKnown ? LOOKUP_WAIT_MS : LOOKUP_MS_MAX)
      if (found !== null) return found.value === null ? null : { ...found, value: found.value }
      throw databaseUnavailable()
    } catch (error) {
      if (toEdgeError(error).code !== 'database_unavailable') throw error
      this.#failed(entry, startMs)
      if (entry === undefined || !this.#outage.covers(entry.askedMs)) throw error
      return { value: entry.value, from: 'stale' }
    }
  }

  delete(key: string): void {
    this.#changes += 1
    this.#asking.delete(key)
    this.#entries.delete(key)
  }

  deleteWhere(isDoomed: (value: V) => boolean): void {
    this.#changes += 1
    this.#asking.clear()
    for (const [key, { value }] of this.#entries) if (isDoomed(value)) this.#entries.delete(key)
  }

  /** What may be said without asking. */
  #known(key: string): Lookup<V> | null {
    const entry = this.#entries.get(key)
    if (entry === undefined) return null
    const { value, askedMs, retryMs } = entry
    const nowMs = this.#options.nowMs()
    if (nowMs - askedMs < this.#options.ttlMs) return { value, from: 'cache' }
    return nowMs < retryMs && this.#outage.covers(askedMs) ? { value, from: 'stale' } : null
  }

  /** Looks up what is half-way through its time, beside the request, once for all who ask. */
  #refresh(key: string, look: () => Promise<V | null>, keepAlive: KeepAlive): void {
    const entry = this.#entries.get(key)
    const startMs = this.#options.nowMs()
    if (entry === undefined || startMs < entry.refreshMs) return
    entry.refreshMs = startMs + LOOKUP_WAIT_MS
    const lookup = withinTime(this.#look(key, look, startMs), LOOKUP_WAIT_MS)
    const fail = (error: unknown): void => {
      // Anything else, whoever asks when the value is too old meets itself.
      if (toEdgeError(error).code === 'database_unavailable') this.#failed(entry, startMs)
    }
    keepAlive(lookup.then((found) => found ?? fail(databaseUnavailable())).then(() => {}, fail))
  }

  #failed(entry: Entry<V> | undefined, startMs: number): void {
    this.#outage.failed(startMs)
    if (entry !== undefined) entry.retryMs = this.#options.nowMs() + OUTAGE_RETRY_MS
  }

  /** Until the asker has its answer, takes too long, or asked before a change. */
  async #waitFor(asker: { readonly sinceMs: number }, key: string): Promise<void> {
    const giveUpMs = asker.sinceMs + ASK_WAIT_MS_MAX
    for (let tries = 1; this.#asking.get(key) === asker; tries++) {
      if (this.#options.nowMs() >= giveUpMs) return
      await new Promise((resolve) => setTimeout(resolve, ASK_PAUSE_MS * tries))
    }
  }

  async #look(
    key: string,
    look: () => Promise<V | null>,
    startMs: number,
  ): Promise<{ value: V | null; from: 'database' }> {
    const changes = this.#changes
    const asker = { sinceMs: startMs }
    this.#asking.set(key, asker)
    try {
      const value = await look()
      this.#outage.answered()
      if (changes === this.#changes) this.#keep(key, value, startMs)
      return { value, from: 'database' }
    } finally {
      if (this.#asking.get(key) === asker) this.#asking.delete(key)
    }
  }

  #keep(key: string, value: V | null, askedMs: number): void {
    // Answers may overtake each other.
    if ((this.#entries.get(key)?.askedMs ?? askedMs) > askedMs) return
    this.#entries.delete(key)
    if (value === null) return
    if (this.#entries.size >= (this.#options.entriesMax ?? CACHE_ENTRIES_MAX)) {
      const [oldest] = this.#entries.keys()
      if (oldest !== undefined) this.#entries.delete(oldest)
    }
    const refreshMs = askedMs + this.#options.ttlMs / 2
    this.#entries.set(key, { value, askedMs, retryMs: 0, refreshMs })
  }
}
