/**
 * Holds hosts' journals and a recount of every event against the database's books. Pure: books in,
 * differences out. An event that a journal no longer holds (it was shipped, and its segment given
 * up) is not a difference; it is counted as unproven. So is one of a host without a journal here.
 */
import { idTimeMs } from '#db/ids.ts'
import { costOf, type TokenPrices } from '#db/money.ts'
import type { UsageEvent } from '#protocol'
import type { BookDifference, BookedEvent } from '../lib/edge-replies.ts'
import type { JournalBook } from './journal-dump.ts'
import { JournalReach } from './journal-reach.ts'

export interface Period {
  readonly startMs: number
  readonly endMs: number
}

/** What is summed per tenant; a superseded attempt counts nothing. */
export interface TenantSums {
  requests: bigint
  prompt_tokens: bigint
  cached_prompt_tokens: bigint
  completion_tokens: bigint
  gpu_us: bigint
  swap_us: bigint
  cost_pusd: bigint
}

/** One comparison: journals first, then every booked event in order, then the totals. */
export class BookComparison {
  readonly differences: BookDifference[] = []
  readonly #period: Period
  readonly #prices: ReadonlyMap<string, TokenPrices>
  /** By `<request id>/<attempt>`: what no booked event was found for yet. */
  readonly #journalled = new Map<string, UsageEvent>()
  readonly #reach: JournalReach
  readonly #sums = new Map<string, TenantSums>()
  /** The attempt that counts, unless the next row is a later one of the same request. */
  #last: BookedEvent | null = null
  eventCount = 0
  /** Found in a journal, and the same there. */
  provenCount = 0
  /** Of hosts whose journal was given, and which it no longer holds. */
  givenUpCount = 0
  /** Otherwise in the journal of their host, or not where it must be: each is a difference. */
  differingCount = 0
  /** Of hosts whose journal was not given. */
  withoutJournalCount = 0
  /** Voids: no host took part in them. */
  edgeCount = 0

  constructor(
    period: Period,
    journals: readonly JournalBook[],
    prices: ReadonlyMap<string, TokenPrices>,
  ) {
    this.#period = period
    this.#prices = prices
    this.#reach = new JournalReach(journals)
    for (const journal of journals) this.#addJournal(journal)
  }

  /** In the order of (request id, attempt), all of the period. */
  addBooked(row: BookedEvent): void {
    const { event } = row
    this.eventCount += 1
    const key = keyOf(event)
    const journalled = this.#journalled.get(key)
    this.#journalled.delete(key)
    if (journalled !== undefined) this.#compare(journalled, event, 'event_differs', 'ledger')
    else this.#missInJournal(event)
    if (this.#last !== null && this.#last.event.request_id !== event.request_id) this.#count()
    this.#last = row
  }

  /** After the last row: what the journals hold beyond it, and the recount against the totals. */
  finish(totals: ReadonlyMap<string, TenantSums>): void {
    this.#count()
    for (const [key, event] of this.#journalled) {
      const books = { journal: 'settled', ledger: null }
      this.#add('event_lost', event.tenant_id, key, null, books)
    }
    for (const tenantId of new Set([...this.#sums.keys(), ...totals.keys()])) {
      const [recount, booked] = [this.#sums.get(tenantId), totals.get(tenantId)]
      for (const field of Object.keys(NOTHING) as (keyof TenantSums)[]) {
        const books = {
          events: String(recount?.[field] ?? 0n),
          totals: String(booked?.[field] ?? 0n),
        }
        if (books.events === books.totals) continue
        this.#add('total_differs', tenantId, tenantId, field, books)
      }
    }
  }

  #addJournal({ directory, events, damage }: JournalBook): void {
    for (const { segment, place, what } of damage) {
      const subject = segment === null ? directory : `${directory} segment ${segment}`
      this.#add('journal_damaged', null, subject, place, { journal: what })
    }
    for (const event of events) {
      const billedMs = idTimeMs(event.request_id) ?? Date.parse(event.ended_at)
      if (billedMs < this.#period.startMs || billedMs >= this.#period.endMs) continue
      const known = this.#journalled.get(keyOf(event))
      if (known !== undefined) this.#compare(known, event, 'journals_differ', directory)
      else this.#journalled.set(keyOf(event), event)
    }
  }

  #compare(journalled: UsageEvent, other: UsageEvent, kind: string, otherBook: string): void {
    let isSame = true
    for (const field of Object.keys(journalled) as (keyof UsageEvent)[]) {
      const books = { journal: toText(journalled[field]), [otherBook]: toText(other[field]) }
      if (books.journal === books[otherBook]) continue
      isSame = false
      this.#add(kind, other.tenant_id, keyOf(other), field, books)
    }
    if (otherBook !== 'ledger') return
    if (isSame) this.provenCount += 1
    else this.differingCount += 1
  }

  #missInJournal(event: UsageEvent): void {
    const reach = event.source === 'edge' ? 'edge' : this.#reach.of(event)
    if (reach === 'edge') this.edgeCount += 1
    else if (reach === 'no_journal') this.withoutJournalCount += 1
    else if (reach === 'given_up') this.givenUpCount += 1
    else {
      this.differingCount += 1
      const books = { journal: null, ledger: 'stored' }
      this.#add('journal_missing', event.tenant_id, keyOf(event), null, books)
    }
  }

  #count(): void {
    if (this.#last === null) return
    const { event, price_id: priceId } = this.#last
    const sums = this.#sums.get(event.tenant_id) ?? { ...NOTHING }
    this.#sums.set(event.tenant_id, sums)
    const prices = priceId === null ? UNPRICED : this.#prices.get(priceId)
    sums.requests += 1n
    sums.prompt_tokens += BigInt(event.prompt_tokens)
    sums.cached_prompt_tokens += BigInt(event.cached_prompt_tokens)
    sums.completion_tokens += BigInt(event.completion_tokens)
    sums.gpu_us += BigInt(event.gpu_us)
    sums.swap_us += BigInt(event.swap_us)
    sums.cost_pusd += costOf(toCounts(event), prices ?? UNPRICED)
  }

  #add(
    kind: string,
    tenantId: string | null,
    subject: string,
    field: string | null,
    books: BookDifference['books'],
  ): void {
    this.differences.push({ kind, tenant_id: tenantId, subject, field, books })
  }
}

const NOTHING: TenantSums = {
  requests: 0n,
  prompt_tokens: 0n,
  cached_prompt_tokens: 0n,
  completion_tokens: 0n,
  gpu_us: 0n,
  swap_us: 0n,
  cost_pusd: 0n,
}
const UNPRICED: TokenPrices = { promptPusd: 0n, cachedPromptPusd: 0n, completionPusd: 0n }

const keyOf = ({ request_id, attempt }: UsageEvent): string => `${request_id}/${attempt}`

const toCounts = (event: UsageEvent) => ({
  promptTokens: event.prompt_tokens,
  cachedPromptTokens: event.cached_prompt_tokens,
  completionTokens: event.completion_tokens,
})

/** Times are compared as moments, however they are written. */
function toText(value: UsageEvent[keyof UsageEvent]): string {
  return JSON.stringify(value)
}
