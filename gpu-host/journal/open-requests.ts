/**
 * Which requests the journal holds open, and how far each has come: a fold over records, the same
 * one while writing (for the head of the next segment) and at recovery.
 */
import type { JournalRecord, OpenedRecord, ProgressRow, StartedRecord } from './record.ts'

export interface OpenRequest {
  readonly opened: OpenedRecord
  readonly started: StartedRecord | null
  readonly progress: ProgressRow | null
}

export class OpenRequests {
  #byHandle = new Map<number, OpenRequest>()

  apply(record: JournalRecord): void {
    switch (record.t) {
      case 'segment':
        this.#byHandle = new Map(record.open.map((entry) => [entry.opened.n, entry]))
        return
      case 'opened':
        this.#byHandle.set(record.n, { opened: record, started: null, progress: null })
        return
      case 'started':
        this.#update(record.n, { started: record })
        return
      case 'progress':
        for (const row of record.rows) this.#update(row[0], { progress: row })
        return
      case 'settled':
        this.#byHandle.delete(record.n)
        return
      case 'salvaged':
        return
    }
  }

  list(): OpenRequest[] {
    return [...this.#byHandle.values()]
  }

  get size(): number {
    return this.#byHandle.size
  }

  /** Damage may have eaten the opening of a request: what cannot be named cannot be billed. */
  #update(handle: number, change: Partial<OpenRequest>): void {
    const entry = this.#byHandle.get(handle)
    if (entry !== undefined) this.#byHandle.set(handle, { ...entry, ...change })
  }
}
