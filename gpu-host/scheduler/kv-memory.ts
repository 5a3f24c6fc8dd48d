/**
 * Gives sequences the pages of their KV cells, and takes them. In order of age, which is the order
 * of starts: a sequence begins when its tokens so far fit into what is free or cached and not yet
 * promised to others that began; one that grows takes free pages, then cached ones, and then those
 * of the youngest sequence that began after it (or of one whose client does not read). Who loses
 * its pages keeps its sampler and begins anew later: its tokens run again and it goes on where it
 * was. The oldest sequence is never in want, so there is always one that advances.
 */
import type { Engine } from '../engine.ts'
import type { HostMetrics } from '../telemetry/metrics.ts'
import { kvIdentity } from './kv-identity.ts'
import { type PageCounts, type PageLease, PagePool } from './page-pool.ts'
import { toOwner } from './row-guard.ts'
import { choiceSeed, type Sequence } from './sequence.ts'
import type { SequenceRows } from './step-batch.ts'
import type { PlannedRows } from './step-plan.ts'

type OnRefused = (sequence: Sequence, error: unknown) => void
type KvMetrics = Pick<HostMetrics, 'prefixHitTokens' | 'prefixEvictions' | 'kvPreemptions'>

export class KvMemory {
  readonly #engine: Engine
  readonly #metrics: KvMetrics
  readonly #pool: PagePool
  /** Every sequence that holds a place in the engine, by that place. */
  readonly #held: ReadonlyMap<number, Sequence>
  readonly #leases = new Map<Sequence, PageLease>()
  #evictionsSeen = 0
  #isShort = false

  constructor(engine: Engine, metrics: KvMetrics, held: ReadonlyMap<number, Sequence>) {
    this.#engine = engine
    this.#metrics = metrics
    this.#held = held
    this.#pool = new PagePool(engine.limits)
  }

  get counts(): PageCounts {
    return this.#pool.counts
  }

  /** A sequence waits for pages, since the last `begin`. */
  get isShort(): boolean {
    return this.#isShort
  }

  /** Lets sequences begin for which there is room; gives all that can have rows in a step. */
  begin(onRefused: OnRefused): Sequence[] {
    const running: Sequence[] = []
    this.#isShort = false
    for (const sequence of this.#byAge()) {
      if (!sequence.isRunning || sequence.order !== null || sequence.buffer.isFull) continue
      if (!this.#leases.has(sequence)) {
        // The youngest do not overtake: a long prompt's turn comes.
        if (this.#isShort || waitsForFirstChoice(sequence)) continue
        if (!this.#begin(sequence, onRefused)) continue
      }
      running.push(sequence)
    }
    return running
  }

  /** Of a plan the rows whose cells have pages now. */
  fit(plan: readonly PlannedRows[]): SequenceRows[] {
    const rows = plan.flatMap(({ sequence, rows: count }) => {
      const planned = this.#held.get(sequence)
      return planned === undefined ? [] : [{ sequence: planned, rows: count }]
    })
    const byAge = rows.toSorted((a, b) => a.sequence.startOrder - b.sequence.startOrder)
    const fitting = new Set<Sequence>()
    for (const { sequence, rows: count } of byAge) {
      if (this.#grow(sequence, sequence.filledCells + count)) fitting.add(sequence)
    }
    // In order of age: whoever loses its pages to an older one has not had its turn yet.
    return rows.filter(({ sequence }) => fitting.has(sequence))
  }

  /** Whose cells the sequence has, as kvIdentity; null = it has none. */
  scopeOf(sequence: Sequence): string | null {
    return this.#leases.get(sequence)?.scope ?? null
  }

  /** Its filled cells hold its tokens: from now on other sequences may begin with them. */
  publish(sequence: Sequence): void {
    const lease = this.#leases.get(sequence)
    if (lease !== undefined) this.#pool.publish(lease, sequence, sequence.filledCells)
  }

  /** Closes the sequence in the engine; its full pages stay cached. */
  end(sequence: Sequence): void {
    if (sequence.isOpenInEngine) this.#engine.closeSequence(sequence.engineSequence)
    sequence.isOpenInEngine = false
    this.#release(sequence)
  }

  #begin(sequence: Sequence, onRefused: OnRefused): boolean {
    let scope: string
    try {
      scope = kvIdentity(toOwner(sequence, this.#engine.info.baseDigest))
    } catch (error) {
      onRefused(sequence, error)
      return false
    }
    const lease = this.#pool.acquire(scope, sequence)
    const wanted = this.#missing(sequence, lease)
    while (wanted + this.#promised() > this.#pool.available) {
      const stalled = [...this.#leases.keys()].find((other) => this.#isHoldingUnread(other))
      if (stalled !== undefined) {
        this.#preempt(stalled)
        continue
      }
      this.#pool.release(lease)
      this.#isShort = true
      return false
    }
    this.#leases.set(sequence, lease)
    sequence.takeCells(lease.hitCells)
    this.#metrics.prefixHitTokens.inc(lease.hitCells)
    if (sequence.isOpenInEngine) {
      this.#tellPages(sequence, lease)
      return true
    }
    try {
      this.#openInEngine(sequence, lease)
    } catch (error) {
      this.#release(sequence)
      onRefused(sequence, error)
      return false
    }
    sequence.isOpenInEngine = true
    return true
  }

  #openInEngine(sequence: Sequence, lease: PageLease): void {
    const { sampling, logprobs, top_logprobs } = sequence.request
    this.#engine.openSequence(sequence.engineSequence, {
      sampling: { ...sampling, seed: choiceSeed(sequence.owner.seed, sequence.choice) },
      topLogprobs: logprobs ? top_logprobs : -1,
      promptTokens: sequence.prompt.tokens,
      pages: Int32Array.from(lease.pages),
      filledCells: lease.hitCells,
    })
  }

  /** Pages for its tokens so far and the next one that it still has to get. */
  #missing({ tokenCount }: Sequence, lease: PageLease): number {
    const cells = Math.min(tokenCount + 1, this.#engine.limits.contextLength)
    return Math.max(0, this.#pool.pagesFor(cells) - lease.pages.length)
  }

  /** What the sequences that began have still to get for the tokens that they have. */
  #promised(): number {
    let pages = 0
    for (const [sequence, lease] of this.#leases) pages += this.#missing(sequence, lease)
    return pages
  }

  #grow(sequence: Sequence, cells: number): boolean {
    const lease = this.#leases.get(sequence)
    if (lease === undefined) return false
    const before = lease.pages.length
    while (!this.#pool.grow(lease, cells)) {
      const victim = this.#pickVictim(sequence)
      if (victim === null) return false
      this.#preempt(victim)
    }
    this.#metrics.prefixEvictions.inc(this.#pool.evictions - this.#evictionsSeen)
    this.#evictionsSeen = this.#pool.evictions
    if (lease.pages.length > before) this.#tellPages(sequence, lease)
    return true
  }

  /** Whom nobody reads, then the youngest of those that began after it. */
  #pickVictim(sequence: Sequence): Sequence | null {
    let youngest: Sequence | null = null
    for (const other of this.#leases.keys()) {
      if (other === sequence) continue
      if (this.#isHoldingUnread(other)) return other
      if (other.startOrder > (youngest ?? sequence).startOrder) youngest = other
    }
    return youngest
  }

  #isHoldingUnread(sequence: Sequence): boolean {
    const lease = this.#leases.get(sequence)
    return lease !== undefined && lease.pages.length > 0 && sequence.buffer.isFull
  }

  #preempt(sequence: Sequence): void {
    this.#release(sequence)
    sequence.takeCells(0)
    this.#engine.setPages(sequence.engineSequence, new Int32Array(0), 0)
    this.#metrics.kvPreemptions.inc()
  }

  #tellPages(sequence: Sequence, lease: PageLease): void {
    const pages = Int32Array.from(lease.pages)
    this.#engine.setPages(sequence.engineSequence, pages, sequence.filledCells)
  }

  #release(sequence: Sequence): void {
    const lease = this.#leases.get(sequence)
    if (lease === undefined) return
    this.#leases.delete(sequence)
    this.#pool.release(lease)
  }

  #byAge(): Sequence[] {
    return [...this.#held.values()].sort((a, b) => a.startOrder - b.startOrder)
  }
}

/** The other choices of a request begin with the prompt that the first one is reading. */
function waitsForFirstChoice(sequence: Sequence): boolean {
  const [first] = sequence.owner.sequences
  if (first === undefined || first.startOrder >= sequence.startOrder) return false
  return first.state === 'starting' || first.state === 'prefilling'
}
