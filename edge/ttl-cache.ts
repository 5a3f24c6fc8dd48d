/**
 * Remembers values for a while, a bounded number of them. Holds values, never promises: in workerd
 * one request must not wait for what another one started.
 */
import { putLast } from './bounded-map.ts'

export class TtlCache<V> {
  readonly #ttlMs: number
  readonly #entriesMax: number
  readonly #nowMs: () => number
  /** Oldest first, since an entry that is set again is moved to the end. */
  readonly #entries = new Map<string, { readonly value: V; readonly untilMs: number }>()

  constructor(options: { ttlMs: number; entriesMax: number; nowMs: () => number }) {
    this.#ttlMs = options.ttlMs
    this.#entriesMax = options.entriesMax
    this.#nowMs = options.nowMs
  }

  /** The value, or undefined when it is not known or too old. */
  get(key: string): V | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (entry.untilMs > this.#nowMs()) return entry.value
    this.#entries.delete(key)
    return undefined
  }

  set(key: string, value: V): void {
    const entry = { value, untilMs: this.#nowMs() + this.#ttlMs }
    putLast(this.#entries, key, entry, this.#entriesMax)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  deleteWhere(isDoomed: (value: V) => boolean): void {
    for (const [key, { value }] of this.#entries) if (isDoomed(value)) this.#entries.delete(key)
  }
}
