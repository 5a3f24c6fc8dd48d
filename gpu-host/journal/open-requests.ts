/**
 * Which requests the journal holds open, and how far each has come: a fold over records, the same
 * one while writing (for the head of the next segment) and at recovery, where some may be missing.
 *
 * A request leaves by its settled record alone. One that a segment's head no longer knows ended in
 * records that damage has eaten, and stays open here, to be closed at its last progress.
 */
import type { RequestFacts } from '../protocol.ts'
import type {
  JournalRecord,
  OpenedRecord,
  ProgressRow,
  SegmentRecord,
  SettledRecord,
  StartedRecord,
} from './record.ts'

export interface OpenRequest {
  readonly opened: OpenedRecord
  readonly started: StartedRecord | null
  readonly progress: ProgressRow | null
}

/** A settled record is its facts and, at most, this much around them. */
const SETTLEMENT_EXTRA_BYTES = 1200

/** Most bytes that the settled record of `request` takes. */
export function settlementBytesMax(request: RequestFacts): number {
  return Buffer.byteLength(JSON.stringify(request)) + SETTLEMENT_EXTRA_BYTES
}

export class OpenRequests {
  #byHandle = new Map<number, OpenRequest>()
  /** By identity: their handles may be in use again. */
  readonly #unended = new Map<string, OpenRequest>()
  readonly #unnamed = new Set<number>()
  #settlementBytes = 0

  apply(record: JournalRecord): void {
    switch (record.t) {
      case 'segment':
        this.#begin(record)
        return
      case 'opened':
        this.#abandon(record.n)
        this.#add({ opened: record, started: null, progress: null })
        return
      case 'started':
        this.#update(record.n, (entry) => ({ ...entry, started: record }))
        return
      case 'progress':
        for (const row of record.rows) this.#advance(row)
        return
      case 'settled':
        this.#settle(record)
        return
      case 'salvaged':
        return
    }
  }

  list(): OpenRequest[] {
    return [...this.#byHandle.values(), ...this.#unended.values()]
  }

  get size(): number {
    return this.#byHandle.size + this.#unended.size
  }

  /** Most bytes that settling all of them takes. */
  get settlementBytes(): number {
    return this.#settlementBytes
  }

  /** Requests of which only later records were readable: nobody knows whom to bill. */
  get unnamedCount(): number {
    return this.#unnamed.size
  }

  #begin({ open }: SegmentRecord): void {
    for (const handle of [...this.#byHandle.keys()]) this.#abandon(handle)
    for (const entry of open) {
      this.#unended.delete(identityOf(entry.opened.request))
      this.#add(entry)
    }
  }

  /**
   * By identity where the record has one: after the loss of a segment's head, the handle may be one
   * that a later life gave to another request.
   */
  #settle({ n, event }: SettledRecord): void {
    this.#unnamed.delete(n)
    if (event === null) {
      const [, , completionTokens = 0] = this.#byHandle.get(n)?.progress ?? []
      // Who was given a token has an event.
      if (completionTokens === 0) this.#remove(n)
      return
    }
    const identity = identityOf(event)
    this.#unended.delete(identity)
    const isOf = (entry?: OpenRequest): boolean =>
      entry !== undefined && identityOf(entry.opened.request) === identity
    if (isOf(this.#byHandle.get(n))) {
      this.#remove(n)
      return
    }
    for (const [handle, entry] of this.#byHandle) if (isOf(entry)) this.#remove(handle)
  }

  #add(entry: OpenRequest): void {
    this.#byHandle.set(entry.opened.n, entry)
    this.#settlementBytes += settlementBytesMax(entry.opened.request)
  }

  #remove(handle: number): OpenRequest | undefined {
    const entry = this.#byHandle.get(handle)
    if (entry === undefined) return undefined
    this.#byHandle.delete(handle)
    this.#settlementBytes -= settlementBytesMax(entry.opened.request)
    return entry
  }

  #abandon(handle: number): void {
    const entry = this.#remove(handle)
    if (entry !== undefined) this.#unended.set(identityOf(entry.opened.request), entry)
  }

  /** Totals only grow: a record that stands in the wrong place takes nothing back. */
  #advance(row: ProgressRow): void {
    this.#update(row[0], (entry) => {
      const [, promptRows = 0, completionTokens = 0] = entry.progress ?? []
      const isBehind = row[1] < promptRows || row[2] < completionTokens
      return isBehind ? entry : { ...entry, progress: row }
    })
  }

  #update(handle: number, change: (entry: OpenRequest) => OpenRequest): void {
    const entry = this.#byHandle.get(handle)
    if (entry === undefined) this.#unnamed.add(handle)
    else this.#byHandle.set(handle, change(entry))
  }
}

function identityOf(request: Pick<RequestFacts, 'request_id' | 'attempt'>): string {
  return `${request.request_id} ${request.attempt}`
}
