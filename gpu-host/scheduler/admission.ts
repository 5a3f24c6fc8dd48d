/**
 * The waiting line: one bounded queue per tenant, served by tokens. Each tenant has a counter of
 * the tokens that the engine ran for it; the lowest counter goes first, so a tenant that floods the
 * host waits behind its own flood. A tenant that comes back from idle starts at the lowest active
 * counter: idle time earns no credit, and a newcomer is not behind anybody.
 */
import { HostError } from '../errors.ts'

export interface QueuedRequest {
  readonly tenantId: string
  /** Tokens it is expected to cost, for the order among those that start together. */
  readonly costTokens: number
}

export interface AdmissionLimits {
  readonly queueDepthMax: number
  readonly queueDepthTenantMax: number
}

interface TenantLine<T> {
  readonly queue: T[]
  tokens: number
  /** Requests that left the queue and have not ended. */
  running: number
}

const RETRY_MS_MIN = 500
const RETRY_MS_MAX = 30_000
const SERVICE_MS_ASSUMED = 2000
const SERVICE_WEIGHT = 0.1

export class Admission<T extends QueuedRequest> {
  readonly #limits: AdmissionLimits
  readonly #tenants = new Map<string, TenantLine<T>>()
  #depth = 0
  #serviceMs = SERVICE_MS_ASSUMED

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  get depth(): number {
    return this.#depth
  }

  /** Milliseconds until `count` requests that wait have had their turn. */
  waitMs(count: number, sequenceCount: number): number {
    return Math.round((count * this.#serviceMs) / sequenceCount)
  }

  /**
   * Throws `queue_full`, with a retry hint, before any of `count` places is taken. An empty queue
   * has room for all.
   */
  assertRoom(tenantId: string, sequenceCount: number, count: number): void {
    const { queueDepthMax, queueDepthTenantMax } = this.#limits
    const own = this.#tenants.get(tenantId)?.queue.length ?? 0
    const isFull = this.#depth > 0 && this.#depth + count > queueDepthMax
    if (!isFull && (own === 0 || own + count <= queueDepthTenantMax)) return
    const ahead = isFull ? this.#depth : own
    const waitMs = this.waitMs(ahead, sequenceCount)
    throw new HostError(
      'queue_full',
      isFull
        ? 'the host has no room for more requests'
        : 'this tenant has too many requests waiting',
      { retryAfterMs: Math.max(RETRY_MS_MIN, Math.min(RETRY_MS_MAX, waitMs)) },
    )
  }

  push(request: T): void {
    const line = this.#activeLine(request.tenantId)
    line.queue.push(request)
    this.#depth += 1
  }

  /** Takes `request` out of its queue to run; `end` must follow. */
  start(request: T): void {
    // Counted as running before it leaves the queue: in between the tenant would look idle.
    const line = this.#activeLine(request.tenantId)
    line.running += 1
    this.remove(request)
  }

  /** A request that was started has ended. */
  end(request: T, serviceMs: number): void {
    const line = this.#tenants.get(request.tenantId)
    if (line !== undefined) line.running -= 1
    this.#serviceMs += SERVICE_WEIGHT * (serviceMs - this.#serviceMs)
    this.#forgetIdle()
  }

  /** Takes `request` out of its queue, wherever it stands; false when it is not there. */
  remove(request: T): boolean {
    const queue = this.#tenants.get(request.tenantId)?.queue
    const at = queue?.indexOf(request) ?? -1
    if (queue === undefined || at < 0) return false
    queue.splice(at, 1)
    this.#depth -= 1
    this.#forgetIdle()
    return true
  }

  charge(tenantId: string, tokens: number): void {
    const line = this.#tenants.get(tenantId)
    if (line !== undefined) line.tokens += tokens
  }

  *waiting(): Iterable<T> {
    for (const line of this.#tenants.values()) yield* line.queue
  }

  /** Up to `countMax` ready requests in the order in which they should start. */
  fairOrder(isReady: (request: T) => boolean, countMax: number): T[] {
    const lines = [...this.#tenants.values()]
      .map((line) => ({ tokens: line.tokens, ready: line.queue.filter(isReady), at: 0 }))
      .filter((line) => line.ready.length > 0)
    const order: T[] = []
    while (order.length < countMax) {
      let best: (typeof lines)[number] | null = null
      for (const line of lines) {
        if (line.at >= line.ready.length) continue
        if (best === null || line.tokens < best.tokens) best = line
      }
      const request = best?.ready[best.at]
      if (best === null || request === undefined) break
      best.at += 1
      best.tokens += request.costTokens
      order.push(request)
    }
    return order
  }

  #activeLine(tenantId: string): TenantLine<T> {
    const known = this.#tenants.get(tenantId)
    if (known !== undefined && isActive(known)) return known
    const lowest = this.#lowestActive()
    const line = known ?? { queue: [], tokens: 0, running: 0 }
    if (lowest !== null) line.tokens = Math.max(line.tokens, lowest)
    this.#tenants.set(tenantId, line)
    return line
  }

  #lowestActive(): number | null {
    let lowest: number | null = null
    for (const line of this.#tenants.values()) {
      if (isActive(line) && (lowest === null || line.tokens < lowest)) lowest = line.tokens
    }
    return lowest
  }

  /** An idle counter at or below the lowest active one says nothing any more. */
  #forgetIdle(): void {
    const lowest = this.#lowestActive()
    for (const [tenantId, line] of this.#tenants) {
      if (!isActive(line) && (lowest === null || line.tokens <= lowest)) {
        this.#tenants.delete(tenantId)
      }
    }
  }
}

function isActive<T>(line: TenantLine<T>): boolean {
  return line.queue.length > 0 || line.running > 0
}
