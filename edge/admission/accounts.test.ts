import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ConcurrencyAsk, PortionGrant, RateAsk, SpendAsk } from '#db/queries/portions.ts'
import { ASK_VANISHED_MS, OUTAGE_SHARE, RATE_SLICE_MS, RATE_WINDOW_MS } from '../limits.ts'
import { ConcurrencyAccount } from './concurrency-account.ts'
import type { Hold, LimitAccount } from './limit-account.ts'
import { RateAccount } from './rate-account.ts'
import { leavesAtMs } from './rate-window.ts'
import { SpendAccount } from './spend-account.ts'

/**
 * The rules of take_portions() on a virtual clock: an independent model, so that accounts of many
 * edges can be tried through any order of events. db/test/limits.test.ts holds the SQL to them.
 */
class Bank {
  readonly limit: bigint
  readonly #portions: { edge: number; slice: number; units: bigint }[] = []
  readonly #leases = new Map<string, bigint>()
  readonly #held = new Map<number, bigint>()
  /** What ended requests cost. */
  charged = 0n

  constructor(limit: bigint) {
    this.limit = limit
  }

  answer(edge: number, ask: RateAsk | ConcurrencyAsk | SpendAsk, nowMs: number): PortionGrant {
    if (ask.kind === 'spend') return this.#spend(ask)
    if (ask.kind === 'concurrency') return this.#concurrency(edge, ask)
    return this.#rate(edge, ask, nowMs)
  }

  #rate(edge: number, ask: RateAsk, nowMs: number): PortionGrant {
    for (const { slice, units } of ask.refunds) {
      const portion = this.#portions.find((p) => p.edge === edge && p.slice === slice)
      if (portion !== undefined) portion.units = portion.units > units ? portion.units - units : 0n
    }
    const counted = this.#portions.filter(({ slice }) => leavesAtMs(slice) > nowMs)
    const free = this.limit - counted.reduce((sum, { units }) => sum + units, 0n)
    const granted = free < ask.min ? 0n : min(ask.want, free)
    const slice = Math.floor(nowMs / RATE_SLICE_MS)
    const own = this.#portions.find((p) => p.edge === edge && p.slice === slice)
    if (own !== undefined) own.units += granted
    else this.#portions.push({ edge, slice, units: granted })
    const validMs = (slice + 1) * RATE_SLICE_MS - nowMs
    return this.#grant(ask.kind, granted, free - granted, slice, validMs)
  }

  #concurrency(edge: number, ask: ConcurrencyAsk): PortionGrant {
    this.#held.set(edge, ask.held)
    const free = this.limit - [...this.#held.values()].reduce((sum, held) => sum + held, 0n)
    const granted = free < ask.min ? 0n : min(ask.want, free)
    this.#held.set(edge, ask.held + granted)
    return this.#grant('concurrency', granted, free - granted, 0, 60_000)
  }

  /** Charges count when their lease is returned: a lease in the table does what posting does. */
  #spend(ask: SpendAsk): PortionGrant {
    for (const { id, amountPusd, isReturned } of ask.reports) {
      const amount = this.#leases.get(id)
      if (amount === undefined) continue
      this.#leases.set(id, min(amount, amountPusd))
      if (!isReturned) continue
      this.charged += min(amount, amountPusd)
      this.#leases.delete(id)
    }
    const held = [...this.#leases.values()].reduce((sum, amount) => sum + amount, 0n)
    const free = this.limit - this.charged - held
    const granted = free < ask.min ? 0n : min(free, max(ask.min, min(ask.want, free / 8n)))
    if (granted > 0n) this.#leases.set(ask.leaseId, granted)
    return this.#grant('spend', granted, free - granted, 0, 60_000)
  }

  #grant(
    kind: PortionGrant['kind'],
    granted: bigint,
    free: bigint,
    slice: number,
    validMs: number,
  ): PortionGrant {
    const { limit } = this
    const rest = { retryMs: 1000, isExhausted: false, spent: null }
    return { scopeId: 'ten_1', kind, granted, limit, free, slice, validMs, ...rest }
  }
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b)
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b)

/** One event: time passes, and an edge is asked for units, ends a request, or tidies up. */
const event = fc.record({
  afterMs: fc.oneof(fc.nat(300), fc.nat(300), fc.nat(8000)),
  edge: fc.nat(2),
  what: fc.constantFrom('take', 'take', 'take', 'end', 'upkeep'),
  need: fc.integer({ min: 1, max: 30 }),
  /** Of what was taken. */
  usedPercent: fc.nat(100),
  /** The database's answer does not arrive, though it heard. */
  isLost: fc.nat(9).map((n) => n === 0),
})
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never

interface Request {
  readonly edge: number
  readonly hold: Hold
  readonly need: bigint
  readonly atMs: number
  used: bigint | null
}

/** Plays events on accounts of three edges; returns what was admitted. */
function play(
  accounts: readonly LimitAccount[],
  bank: Bank,
  events: readonly Event[],
  check: (requests: readonly Request[], nowMs: number) => void,
): Request[] {
  const requests: Request[] = []
  let nowMs = 1_000_000
  const send = (edge: number, account: LimitAccount, ask: unknown, isLost: boolean) => {
    const grant = bank.answer(edge, ask as RateAsk, nowMs)
    if (isLost) account.lost()
    else account.learn(grant)
    return isLost ? null : grant
  }
  for (const { afterMs, edge, what, need: wish, usedPercent, isLost } of events) {
    nowMs += afterMs
    const account = accounts[edge]
    if (account === undefined) throw new Error('no such edge')
    const need = account.kind === 'concurrency' ? 1n : BigInt(wish)
    if (what === 'take') {
      account.usedMs = nowMs
      let hold = account.take(need, nowMs)
      if (hold === null) {
        const grant = send(edge, account, account.ask(need, nowMs), isLost)
        hold = grant && account.takeGranted(grant, need, nowMs)
      }
      if (hold !== null) requests.push({ edge, hold, need, atMs: nowMs, used: null })
    } else if (what === 'end') {
      const request = requests.find((each) => each.edge === edge && each.used === null)
      if (request === undefined) continue
      request.used = (request.need * BigInt(usedPercent)) / 100n
      request.hold.end(request.used)
    } else {
      const ask = account.upkeep(nowMs)
      if (ask !== null) send(edge, account, ask, isLost)
    }
    check(requests, nowMs)
  }
  return requests
}

const sum = (units: readonly bigint[]): bigint => units.reduce((total, each) => total + each, 0n)
const three = <A>(create: () => A): A[] => [create(), create(), create()]
const events = fc.array(event, { minLength: 60, maxLength: 200, size: 'max' })
/** A counter-example is printed as it was found: to shorten one takes minutes. */
const RUNS = { numRuns: 200, endOnFailure: true }
const limit = fc.integer({ min: 1, max: 200 }).map(BigInt)

describe('accounts of three edges', () => {
  it('use no more in any 60 seconds than the rate', () => {
    fc.assert(
      fc.property(limit, events, (rate, steps) => {
        const accounts = three(() => new RateAccount('tokens', 'ten_1', rate))
        play(accounts, new Bank(rate), steps, (requests, nowMs) => {
          const recent = requests.filter(({ atMs }) => atMs > nowMs - RATE_WINDOW_MS)
          expect(sum(recent.map(({ used, need }) => used ?? need))).toBeLessThanOrEqual(rate)
        })
      }),
      RUNS,
    )
  })

  it('have no more requests under way than the limit', () => {
    fc.assert(
      fc.property(limit, events, (concurrency, steps) => {
        const accounts = three(() => new ConcurrencyAccount('ten_1', concurrency))
        play(accounts, new Bank(concurrency), steps, (requests) => {
          const running = requests.filter(({ used }) => used === null)
          expect(BigInt(running.length)).toBeLessThanOrEqual(concurrency)
        })
      }),
      RUNS,
    )
  })

  it('spend no more than the budget, and give back what was not spent', () => {
    fc.assert(
      fc.property(limit, events, (cap, steps) => {
        const bank = new Bank(cap)
        const accounts = three(() => new SpendAccount('ten_1', cap, '2026-11'))
        const requests = play(accounts, bank, steps, (all) => {
          expect(sum(all.map(({ used, need }) => used ?? need))).toBeLessThanOrEqual(cap)
        })
        // All end, and every edge is idle: what is left can be taken in one piece.
        const running = requests.filter(({ used }) => used === null)
        for (const request of running) {
          request.used = 0n
          request.hold.end(0n)
        }
        const later = 10_000_000
        for (const [edge, account] of accounts.entries()) {
          const ask = account.upkeep(later)
          if (ask !== null) account.learn(bank.answer(edge, ask, later))
          expect(account.isIdle()).toBe(true)
        }
        const left = cap - sum(requests.map(({ used }) => used ?? 0n))
        const [last = new SpendAccount('ten_1', cap, '2026-11')] = accounts
        const grant = bank.answer(0, last.ask(left, later), later)
        last.learn(grant)
        expect(last.takeGranted(grant, left, later)).not.toBeNull()
      }),
      RUNS,
    )
  })
})

describe('an account without the database', () => {
  it('goes on from its leases, then with a share of what was left', () => {
    const bank = new Bank(1000n)
    const account = new SpendAccount('ten_1', 1000n, '2026-11')
    expect(account.takeOffline(1n)).toBeNull()
    const grant = bank.answer(0, account.ask(10n, 0), 0)
    account.learn(grant)
    const hold = account.takeGranted(grant, 10n, 0)
    const inLease = grant.granted - 10n
    const share = (1000n - grant.granted) / OUTAGE_SHARE
    expect(account.takeOffline(inLease)?.leaseId).toBe(hold?.leaseId)
    expect(account.takeOffline(share)?.leaseId).toBeNull()
    expect(account.takeOffline(1n)).toBeNull()
    hold?.end(0n)
    expect(account.takeOffline(10n)?.leaseId).toBe(hold?.leaseId)
  })

  it('counts requests per minute alone, with what it admitted before', () => {
    const bank = new Bank(3n)
    const account = new RateAccount('requests', 'ten_1', 3n)
    const grant = bank.answer(0, account.ask(1n), 0)
    account.learn(grant)
    account.takeGranted(grant, 1n, 0)
    expect(account.takeOffline(2n, 1000)).not.toBeNull()
    expect(account.takeOffline(1n, 1000)).toBeNull()
    expect(account.takeOffline(1n, 70_000)).not.toBeNull()
  })
})

describe('a question whose asker vanished', () => {
  it('is asked anew after a while, and its late answer counts no more', () => {
    const account = new ConcurrencyAccount('tenant', 10n)
    const vanished = account.asks(0)
    expect(account.isAsking(ASK_VANISHED_MS - 1)).toBe(true)
    expect(account.isAsking(ASK_VANISHED_MS)).toBe(false)
    const next = account.asks(ASK_VANISHED_MS)
    account.asked(vanished)
    expect(account.isAskingFor(vanished)).toBe(false)
    expect(account.isAskingFor(next)).toBe(true)
    expect(account.isAsking(ASK_VANISHED_MS + 1)).toBe(true)
  })

  it('gives back the lease that it may have got', () => {
    const account = new SpendAccount('tenant', 100n, '2026-11')
    const { leaseId } = account.ask(5n, 0)
    account.asks(0)
    expect(account.isAsking(ASK_VANISHED_MS)).toBe(false)
    expect(account.ask(5n, ASK_VANISHED_MS).reports).toEqual([
      { id: leaseId, amountPusd: 0n, isReturned: true },
    ])
  })
})
