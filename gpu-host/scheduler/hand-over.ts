/**
 * What the journal is told and what consumers are given, in this order. A token is owed when its
 * chunk is handed over: to a consumer that waits, together with the step that drew it, in the one
 * write of that step; to one that is behind, when it comes for it. A request is settled with its
 * last chunk. When the journal cannot take it, nothing is handed over.
 */
import type { Clock } from '../clock.ts'
import type { Journal } from '../journal/journal.ts'
import type { JournalRecord } from '../journal/record.ts'
import type { CancelRequest, ChunkEvent } from '../protocol.ts'
import { AttemptBook } from './attempt-book.ts'
import type { Choice } from './choice.ts'
import { type EndOrder, toEndOrder } from './end-order.ts'
import type { LiveRequest } from './live-request.ts'
import {
  type Ending,
  type Settlement,
  settle,
  toEnding,
  toOpened,
  toProgress,
  toStarted,
} from './settlement.ts'

export interface HandOverOptions<C extends Choice> {
  readonly journal: Journal
  readonly clock: Clock
  readonly hostId: string
  /** The request is in the journal for good: gives back what it held. */
  readonly onSettled: (settlement: Settlement<C>) => void
  /** Ends a request between two steps. */
  readonly order: (owner: LiveRequest<C>, order: EndOrder) => void
}

/** What a turn of the loop has to write and to send. */
export interface Turn<C extends Choice = Choice> {
  readonly started: readonly LiveRequest<C>[]
  readonly progressed: ReadonlySet<LiveRequest<C>>
  readonly chunks: readonly OwnedChunk<C>[]
  /** Requests that end before their time. */
  readonly endings: readonly Ending<C>[]
}

/** A turn to which one adds what it has. */
export const NOTHING: Turn<never> = {
  started: [],
  progressed: new Set(),
  chunks: [],
  endings: [],
}

export interface OwnedChunk<C extends Choice = Choice> {
  readonly owner: LiveRequest<C>
  readonly chunk: ChunkEvent
}

export class HandOver<C extends Choice = Choice> {
  readonly attempts = new AttemptBook()
  readonly #options: HandOverOptions<C>
  /** Settled records that the journal could not take yet. */
  #unwritten: JournalRecord[] = []

  constructor(options: HandOverOptions<C>) {
    this.#options = options
  }

  /** Throws `journal_full`; then the request is not to be begun. */
  open(owner: LiveRequest): void {
    this.#append([toOpened(owner)])
    this.attempts.enter(owner.request)
  }

  commit({ started, progressed, chunks: drawn, endings: early }: Turn<C>): void {
    const nowUs = this.#options.clock.nowUs()
    const ending = new Set(early.map(({ owner }) => owner))
    const chunks = drawn.filter(({ owner }) => !ending.has(owner))
    const taken = takeAwaited(chunks)
    for (const [owner, { tokens }] of taken) owner.handedOverTokens += tokens
    const whole = [...taken.keys()].filter(
      (owner) => owner.finish !== null && countOf(chunks, owner) === 1,
    )
    const settlements = [...early, ...whole.map(toEnding)].map((each) => this.#settle(each))
    try {
      this.#append([
        ...started.map((owner) => toStarted(owner, nowUs)),
        ...toProgress(progressed),
        ...settlements.map(({ record }) => record),
      ])
    } catch (error) {
      for (const [owner, { tokens }] of taken) owner.handedOverTokens -= tokens
      this.#fail(new Set([...progressed, ...ending, ...whole]), error)
      return
    }
    for (const { owner, chunk } of chunks) owner.buffer.push(chunk)
    for (const settlement of settlements) this.#finish(settlement)
  }

  /** A consumer comes for a chunk that it let lie. False = it does not get it. */
  record(owner: LiveRequest<C>, { tokens }: ChunkEvent): boolean {
    if (owner.order !== null || owner.isSettled) return false
    owner.handedOverTokens += tokens
    owner.stalledSinceUs = null
    const isLast = owner.finish !== null && !owner.buffer.hasChunks
    const settlement = isLast ? this.#settle(toEnding(owner)) : null
    try {
      this.#append(settlement === null ? toProgress([owner]) : [settlement.record])
    } catch (error) {
      owner.handedOverTokens -= tokens
      this.#options.order(owner, toEndOrder(error))
      return false
    }
    // The chunk is on its way out: only the end of the stream goes into the buffer after it.
    if (settlement !== null) this.#finish(settlement)
    return true
  }

  /** Corrects a request that was settled at more than its client got; false = there is none. */
  correct(cancel: CancelRequest): boolean {
    const record = this.attempts.correct(cancel, this.#nowIso())
    if (record === null) return false
    try {
      this.#append([record])
    } catch {
      this.#unwritten.push(record)
    }
    return true
  }

  #fail(owners: ReadonlySet<LiveRequest<C>>, error: unknown): void {
    for (const owner of owners) {
      const settlement = this.#settle({ owner, ...toEndOrder(error) })
      this.#unwritten.push(settlement.record)
      this.#finish(settlement)
    }
    this.#writeLate()
  }

  /** Endings alone may take the journal's reserve: a full disk holds none of them up. */
  #writeLate(): void {
    try {
      this.#append([])
    } catch {
      // They go with the next records that the journal takes.
    }
  }

  #settle(ending: Ending<C>): Settlement<C> {
    const { clock, hostId, journal } = this.#options
    const host = { hostId, epoch: journal.epoch }
    return settle(ending, host, { us: clock.nowUs(), iso: this.#nowIso() })
  }

  #finish(settlement: Settlement<C>): void {
    const { ending, record, lastEvent } = settlement
    const { buffer } = ending.owner
    ending.owner.isSettled = true
    this.attempts.settle(record)
    this.#options.onSettled(settlement)
    buffer.dropChunks()
    buffer.push(lastEvent)
    buffer.end()
  }

  #append(records: readonly JournalRecord[]): void {
    this.#options.journal.append([...this.#unwritten, ...records])
    this.#unwritten = []
  }

  #nowIso(): string {
    return new Date(this.#options.clock.nowMs()).toISOString()
  }
}

/** The first chunk of each request whose consumer waits: the one that it gets with this turn. */
function takeAwaited<C extends Choice>(
  chunks: readonly OwnedChunk<C>[],
): Map<LiveRequest<C>, ChunkEvent> {
  const taken = new Map<LiveRequest<C>, ChunkEvent>()
  for (const { owner, chunk } of chunks) {
    if (owner.buffer.isAwaited && !taken.has(owner)) taken.set(owner, chunk)
  }
  return taken
}

function countOf(chunks: readonly OwnedChunk[], owner: LiveRequest): number {
  return chunks.filter((each) => each.owner === owner).length
}
