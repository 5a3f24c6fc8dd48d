/**
 * The waiting line: one bounded queue per tenant, served by tokens (start-time fair queueing). Each
 * tenant has a counter of tokens ÷ its weight; the lowest goes first, so a tenant that floods the
 * host waits behind its own flood. A start is charged what it is expected to cost, and put right as
 * its rows run and when it ends: many starts at once do not go unseen, and what was not used is
 * given back. A tenant whose queue was empty joins where the last start stood: idle time earns no
 * credit, and a newcomer is behind nobody.
 *
 * Bounds. Of two tenants that both have requests waiting all the time, the tokens ÷ weight that ran
 * differ by no more than what their running requests may cost. Nobody holds all sequences, however
 * long its requests are (sequence-share.ts). No tenant fills more of the queue than it leaves to
 * others.
 */
import { HostError } from '../errors.ts'
import { followPeak, isBeyondShare, reservedFrom, type Standing } from './sequence-share.ts'

export interface QueuedRequest {
  readonly tenantId: string
  /** Its tenant's share of a host that cannot serve all, as a multiple of others'. */
  readonly weight: number
  /** What it is expected to cost, in tokens drawn; see step-cost.ts for prompts. */
  readonly costTokens: number
}

export interface AdmissionLimits {
  readonly queueDepthMax: number
  readonly queueDepthTenantMax: number
}

interface Bill {
  readonly weight: number
  charged: number
  used: number
}

interface TenantLine<T> {
  readonly queue: T[]
  readonly running: Map<T, Bill>
  weight: number
  /** Tokens ÷ weight, charged so far. */
  counter: number
  /** The most sequences that others ran at once of late. */
  othersPeak: number
}

/** A line while an order is being made. */
interface Turn<T> {
  readonly queue: readonly T[]
  readonly weight: number
  readonly running: number
  counter: number
  at: number
}

/** Further than that nobody has to look: it is a wait beyond any bound. */
const AHEAD_MAX = 1024
/** Idle tenants remembered before the first look at who may be forgotten. */
const DEBTS_MIN = 64

export class Admission<T extends QueuedRequest> {
  readonly #limits: AdmissionLimits
  /** Of tenants with requests that wait or run. */
  readonly #lines = new Map<string, TenantLine<T>>()
  /** Counters of idle tenants that are above where they would join. */
  readonly #debts = new Map<string, number>()
  #debtsSwept = 0
  #depth = 0
  #running = 0
  /** Counter of the tenant that started last, as it was then. */
  #lastStart = 0

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  get depth(): number {
    return this.#depth
  }

  /**
   * Throws `queue_full`, with `retryAfterMs`, before any of `count` places is taken. An empty queue
   * has room for all; a tenant may take as much as it leaves to others.
   */
  assertRoom(tenantId: string, count: number, retryAfterMs: number): void {
    const { queueDepthMax, queueDepthTenantMax } = this.#limits
    const own = this.#lines.get(tenantId)?.queue.length ?? 0
    const isFull = this.#depth > 0 && this.#depth + count > queueDepthMax
    const ownMax = Math.min(queueDepthTenantMax, queueDepthMax - this.#depth)
    if (!isFull && (own === 0 || own + count <= ownMax)) return
    throw new HostError(
      'queue_full',
      isFull
        ? 'the host has no room for more requests'
        : 'this tenant has too many requests waiting',
      { retryAfterMs },
    )
  }

  push(request: T): void {
    const { tenantId, weight } = request
    const line = this.#lines.get(tenantId) ?? {
      queue: [],
      running: new Map<T, Bill>(),
      weight,
      counter: this.#debts.get(tenantId) ?? 0,
      othersPeak: this.#running,
    }
    this.#debts.delete(tenantId)
    line.weight = weight
    if (line.queue.length === 0) line.counter = Math.max(line.counter, this.#floor())
    line.queue.push(request)
    this.#lines.set(tenantId, line)
    this.#depth += 1
  }

  /** Takes a waiting request out of its queue to run; `end` must follow. */
  start(request: T): void {
    const line = this.#lines.get(request.tenantId)
    if (line === undefined) throw new Error('started a request that does not wait')
    this.#lastStart = line.counter
    const { weight, costTokens } = request
    line.running.set(request, { weight, charged: costTokens, used: 0 })
    line.counter += costTokens / weight
    this.#running += 1
    this.remove(request)
    this.#followPeaks()
  }

  /** A running request cost `tokens` more. */
  charge(request: T, tokens: number): void {
    const line = this.#lines.get(request.tenantId)
    const bill = line?.running.get(request)
    if (line === undefined || bill === undefined) return
    bill.used += tokens
    const beyond = Math.max(0, bill.used - bill.charged)
    bill.charged += beyond
    line.counter += beyond / bill.weight
  }

  /** A request that was started has ended: what it was charged beyond its use is given back. */
  end(request: T): void {
    const line = this.#lines.get(request.tenantId)
    const bill = line?.running.get(request)
    if (line === undefined || bill === undefined) return
    line.running.delete(request)
    this.#running -= 1
    line.counter -= (bill.charged - bill.used) / bill.weight
    this.#leave(request.tenantId, line)
  }

  /** Takes `request` out of its queue, wherever it stands; false when it is not there. */
  remove(request: T): boolean {
    const line = this.#lines.get(request.tenantId)
    const at = line?.queue.indexOf(request) ?? -1
    if (line === undefined || at < 0) return false
    line.queue.splice(at, 1)
    this.#depth -= 1
    this.#leave(request.tenantId, line)
    return true
  }

  *waiting(): Iterable<T> {
    for (const line of this.#lines.values()) yield* line.queue
  }

  /** Up to `countMax` ready requests in the order in which they should start. */
  fairOrder(isReady: (request: T) => boolean, countMax: number): T[] {
    const turns = Array.from(this.#lines.values(), (line) => toTurn(line, isReady))
    const order: T[] = []
    while (order.length < countMax) {
      const best = pickTurn(turns)
      if (best === null) break
      order.push(takeTurn(best))
    }
    return order
  }

  /**
   * What would start before a request that the tenant brought now: those that wait, and those that
   * will have come by then. A tenant with a line is taken to go on as it does, since who has to
   * wait is overtaken by newer requests of others in turn.
   */
  ahead(tenantId: string, weight: number): T[] {
    const turns: Turn<T>[] = []
    const counter = this.#debts.get(tenantId) ?? 0
    let own: Turn<T> = { queue: [], weight, running: 0, counter, at: 0 }
    for (const [id, line] of this.#lines) {
      const turn = toTurn(line, () => true)
      if (id === tenantId) own = turn
      else if (turn.queue.length > 0) turns.push(turn)
    }
    if (own.queue.length === 0) own.counter = Math.max(own.counter, this.#floor())
    const before: T[] = []
    while (before.length < AHEAD_MAX) {
      const other = pickTurn(turns)
      const isOwn = other === null || !isBefore(other, own)
      if (isOwn && own.at >= own.queue.length) break
      const turn = isOwn ? own : other
      before.push(takeTurn(turn))
      if (!isOwn && turn.at === turn.queue.length) turn.at = 0
    }
    return before
  }

  /** Free sequences that the tenant may not take now; `starting` = what starts with it. */
  reservedFrom(
    tenantId: string,
    weight: number,
    sequenceCount: number,
    starting: readonly T[] = [],
  ): number {
    const along = starting.filter((request) => request.tenantId === tenantId).length
    const own = this.#lines.get(tenantId)
    const weights = this.#weights + (own === undefined ? weight : 0)
    return reservedFrom(this.#standing(own, weight, weights), sequenceCount, along)
  }

  /** Tenants that run more than their share. */
  beyondShare(sequenceCount: number): ReadonlySet<string> {
    const weights = this.#weights
    const beyond = new Set<string>()
    for (const [tenantId, line] of this.#lines) {
      const standing = this.#standing(line, line.weight, weights)
      if (isBeyondShare(standing, sequenceCount)) beyond.add(tenantId)
    }
    return beyond
  }

  /** Of all tenants with requests here. */
  get #weights(): number {
    let weights = 0
    for (const line of this.#lines.values()) weights += line.weight
    return weights
  }

  /** `own` absent = the tenant has no requests here. */
  #standing(own: TenantLine<T> | undefined, weight: number, weights: number): Standing {
    const running = own?.running.size ?? 0
    const othersRunning = this.#running - running
    return {
      ...{ running, weight, weights, othersRunning },
      othersPeak: own?.othersPeak ?? othersRunning,
    }
  }

  /** What each tenant's others run at once, now that one more started. */
  #followPeaks(): void {
    for (const line of this.#lines.values()) {
      line.othersPeak = followPeak(line.othersPeak, this.#running - line.running.size)
    }
  }

  /** Where a tenant joins: the last start, or the lowest that waits where that is lower. */
  #floor(): number {
    let floor = this.#lastStart
    for (const { queue, counter } of this.#lines.values()) {
      if (queue.length > 0) floor = Math.min(floor, counter)
    }
    return floor
  }

  /** A tenant without requests owes what it is ahead by, until the others have caught up. */
  #leave(tenantId: string, line: TenantLine<T>): void {
    if (line.queue.length > 0 || line.running.size > 0) return
    this.#lines.delete(tenantId)
    if (this.#lines.size === 0) {
      this.#debts.clear()
      this.#lastStart = 0
      return
    }
    const floor = this.#floor()
    if (line.counter > floor) this.#debts.set(tenantId, line.counter)
    if (this.#debts.size < this.#debtsSwept * 2 + DEBTS_MIN) return
    for (const [debtor, counter] of this.#debts) {
      if (counter <= floor) this.#debts.delete(debtor)
    }
    this.#debtsSwept = this.#debts.size
  }
}

function toTurn<T>(line: TenantLine<T>, isReady: (request: T) => boolean): Turn<T> {
  const { queue, running, weight, counter } = line
  return { queue: queue.filter(isReady), running: running.size, weight, counter, at: 0 }
}

function takeTurn<T extends QueuedRequest>(turn: Turn<T>): T {
  const request = turn.queue[turn.at]
  if (request === undefined) throw new Error('took a turn that nobody waits for')
  turn.at += 1
  turn.counter += request.costTokens / turn.weight
  return request
}

function pickTurn<T>(turns: readonly Turn<T>[]): Turn<T> | null {
  let best: Turn<T> | null = null
  for (const turn of turns) {
    if (turn.at >= turn.queue.length) continue
    if (best === null || isBefore(turn, best)) best = turn
  }
  return best
}

/** The lower counter; of equals whoever runs less for its weight. */
function isBefore<T>(one: Turn<T>, other: Turn<T>): boolean {
  if (one.counter !== other.counter) return one.counter < other.counter
  return one.running / one.weight < other.running / other.weight
}
