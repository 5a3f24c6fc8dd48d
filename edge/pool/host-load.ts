/**
 * How many sequences a host has between two of its heartbeats: what it last reported, and what came
 * and went since as far as this edge can tell. Its own requests it knows; other edges send theirs
 * by the same rules, so as much again came from each of them. Without that, edges that look at the
 * same heartbeat send all they have to the same host until the next (see `bench fleet`).
 */
export interface HostLoadOptions {
  /** Of the clock by which reports are dated. */
  readonly nowMs: () => number
}

interface Report {
  readonly sequences: number
  /** Requests of this edge that were in flight there when it was made. */
  readonly own: number
}

interface Entry {
  own: number
  /** How `own` changed of late, oldest first; the first holds from ever. */
  readonly past: { atMs: number; own: number }[]
  report: Report | null
}

/** Changes so close together are kept as one. */
const GRAIN_MS = 25
/** Reports are younger when they come. */
const PAST_MS_MAX = 3000
/** Part of the old that each report leaves in the reckoning of how much other edges send. */
const KEEP_SHARE = 0.99
/** Beyond it a guess would do more harm than none. */
const FACTOR_MAX = 8

export class HostLoad {
  readonly #nowMs: () => number
  readonly #entries = new Map<string, Entry>()
  /** Of reports of late, and of this edge's requests among them. */
  #reported = 0
  #own = 0

  constructor({ nowMs }: HostLoadOptions) {
    this.#nowMs = nowMs
  }

  /** Counts a request of this edge until the returned function is called. */
  enter(hostId: string): () => void {
    this.#change(hostId, 1)
    let isIn = true
    return () => {
      if (isIn) this.#change(hostId, -1)
      isIn = false
    }
  }

  /** A new report of the host: so many sequences ran or waited there at `atMs`. */
  heard(hostId: string, sequences: number, atMs: number): void {
    const entry = this.#entryOf(hostId)
    const own = entry.past.findLast((change) => change.atMs <= atMs)?.own ?? 0
    entry.report = { sequences, own }
    this.#reported = KEEP_SHARE * this.#reported + sequences
    this.#own = KEEP_SHARE * this.#own + own
  }

  /** Requests of this edge in flight there. */
  ownOf(hostId: string): number {
    return this.#entries.get(hostId)?.own ?? 0
  }

  /** As of now; at least what this edge has there. */
  sequencesOf(hostId: string): number {
    const entry = this.#entries.get(hostId)
    if (entry === undefined) return 0
    const { own, report } = entry
    if (report === null) return own
    return Math.max(own, report.sequences + this.#factor * (own - report.own))
  }

  forget(hostId: string): void {
    const entry = this.#entries.get(hostId)
    if (entry === undefined) return
    if (entry.own === 0) this.#entries.delete(hostId)
    else entry.report = null
  }

  /** Requests in the pool for each of this edge's: how many edges share it, where all do alike. */
  get #factor(): number {
    if (this.#own === 0) return 1
    return Math.max(1, Math.min(FACTOR_MAX, this.#reported / this.#own))
  }

  #change(hostId: string, change: 1 | -1): void {
    const entry = this.#entryOf(hostId)
    entry.own += change
    const { own, past } = entry
    const nowMs = this.#nowMs()
    const last = past.at(-1)
    if (last !== undefined && past.length > 1 && nowMs - last.atMs < GRAIN_MS) last.own = own
    else past.push({ atMs: nowMs, own })
    while ((past[1]?.atMs ?? nowMs) < nowMs - PAST_MS_MAX) past.shift()
  }

  #entryOf(hostId: string): Entry {
    const known = this.#entries.get(hostId)
    if (known !== undefined) return known
    const past = [{ atMs: Number.NEGATIVE_INFINITY, own: 0 }]
    const entry = { own: 0, past, report: null }
    this.#entries.set(hostId, entry)
    return entry
  }
}
