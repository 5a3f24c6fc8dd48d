/**
 * Takes what a request needs of all limits that hold for it, or nothing. From what this edge holds
 * where that is enough, else with one statement for all that is short. Without the database it goes
 * on within each account's allowance. Promises are not shared between requests: one that waits for
 * another's question looks again a few milliseconds later.
 */
import type { Db } from '#db/database.ts'
import { isOutage } from '#db/errors.ts'
import { createId } from '#db/ids.ts'
import { findCharges } from '#db/queries/charges.ts'
import { type PortionAsk, type PortionGrant, takePortions } from '#db/queries/portions.ts'
import {
  ACCOUNT_KEPT_MS,
  ASK_PAUSE_MS,
  ASK_WAIT_MS_MAX,
  DATABASE_REST_MS,
  UNKNOWN_COST_ASKED_MS,
  UPKEEP_ASKS_MAX,
} from '../limits.ts'
import type { EdgeMetrics } from '../metrics.ts'
import { ConcurrencyAccount } from './concurrency-account.ts'
import type { Hold, LimitAccount, Refusal } from './limit-account.ts'
import { RateAccount } from './rate-account.ts'
import { SpendAccount } from './spend-account.ts'

export interface Need {
  readonly account: RateAccount | ConcurrencyAccount | SpendAccount
  readonly amount: bigint
}

export type Acquired =
  /** In the order of the needs. */
  | { readonly type: 'held'; readonly holds: readonly Hold[] }
  | { readonly type: 'refused'; readonly need: Need; readonly refusal: Refusal }
  /** The database is away, and the allowance for that is used up. */
  | { readonly type: 'offline'; readonly need: Need }

export interface LimiterOptions {
  readonly db: Db
  readonly metrics: EdgeMetrics
  readonly nowMs: () => number
}

export class Limiter {
  readonly #options: LimiterOptions
  readonly #edgeId = createId('edg')
  readonly #rates = new Map<string, RateAccount>()
  readonly #concurrency = new Map<string, ConcurrencyAccount>()
  readonly #spend = new Map<string, SpendAccount>()
  #offlineUntilMs = Number.NEGATIVE_INFINITY

  constructor(options: LimiterOptions) {
    this.#options = options
  }

  rate(kind: 'requests' | 'tokens', scopeId: string, limit: bigint): RateAccount {
    const create = () => new RateAccount(kind, scopeId, limit)
    return this.#account(this.#rates, `${kind}/${scopeId}`, limit, create)
  }

  concurrency(scopeId: string, limit: bigint): ConcurrencyAccount {
    const create = () => new ConcurrencyAccount(scopeId, limit)
    return this.#account(this.#concurrency, scopeId, limit, create)
  }

  /** @param month `YYYY-MM` */
  spend(scopeId: string, cap: bigint, month: string): SpendAccount {
    const create = () => new SpendAccount(scopeId, cap, month)
    return this.#account(this.#spend, `${month}/${scopeId}`, cap, create)
  }

  /** Throws what the database throws, unless that is away. */
  async acquire(needs: readonly Need[]): Promise<Acquired> {
    const { nowMs } = this.#options
    const holds = new Map<Need, Hold>()
    const giveUpMs = nowMs() + ASK_WAIT_MS_MAX
    try {
      for (;;) {
        const outcome = await this.#advance(needs, holds, nowMs() >= giveUpMs)
        if (outcome === null) continue
        if (outcome.type !== 'held') release(holds)
        return outcome
      }
    } catch (error) {
      release(holds)
      throw error
    }
  }

  /**
   * What is due without a request, now or within the time ahead. False = nothing is left to do.
   * Throws as `acquire` does.
   */
  async upkeep(aheadMs = 0): Promise<boolean> {
    const { metrics, nowMs } = this.#options
    const now = nowMs() + aheadMs
    const due: [LimitAccount, PortionAsk][] = []
    for (const account of this.#accounts()) {
      if (due.length >= UPKEEP_ASKS_MAX || account.isAsking(nowMs())) continue
      const ask = account.upkeep(now)
      if (ask !== null) due.push([account, ask])
    }
    await this.#send(due)
    await this.#settleAwaited()
    this.#forgetIdle(now)
    const spend = [...this.#spend.values()]
    metrics.spendLeasesOpen = spend.reduce((sum, account) => sum + account.openLeases, 0)
    return this.#accounts().some((account) => !account.isIdle(now))
  }

  /** One round: takes what is there, asks for the rest. null = another round is needed. */
  async #advance(
    needs: readonly Need[],
    holds: Map<Need, Hold>,
    isLate: boolean,
  ): Promise<Acquired | null> {
    const now = this.#options.nowMs()
    const isOffline = now < this.#offlineUntilMs
    const short = needs.filter((need) => !holds.has(need) && !take(need, holds, now, isOffline))
    const [first] = short
    if (first === undefined)
      return { type: 'held', holds: needs.flatMap((n) => holds.get(n) ?? []) }
    if (isOffline) return { type: 'offline', need: first }
    for (const need of short) {
      const refusal = need.account.refusalOf(need.amount, now)
      if (refusal !== null) return { type: 'refused', need, refusal }
    }
    if (short.some(({ account }) => account.isAsking(now))) {
      const refusal = { retryAfterMs: ASK_WAIT_MS_MAX, spentPusd: null }
      if (isLate) return { type: 'refused', need: first, refusal }
      await new Promise((resolve) => setTimeout(resolve, ASK_PAUSE_MS))
      return null
    }
    return this.#askFor(short, holds, now)
  }

  async #askFor(
    short: readonly Need[],
    holds: Map<Need, Hold>,
    now: number,
  ): Promise<Acquired | null> {
    const asks = short.map(({ account, amount }): [LimitAccount, PortionAsk] => [
      account,
      account.ask(amount, now),
    ])
    const grants = await this.#send(asks)
    let outcome: Acquired | null = null
    for (const need of short) {
      const { account, amount } = need
      const grant = grants.get(account)
      if (grant === undefined) continue
      const hold = account.takeGranted(grant, amount, now)
      if (hold !== null) holds.set(need, hold)
      else outcome ??= { type: 'refused', need, refusal: account.refuse(grant, amount, now) }
    }
    return outcome
  }

  /** Empty when the database is away. */
  async #send(
    asks: readonly (readonly [LimitAccount, PortionAsk])[],
  ): Promise<Map<LimitAccount, PortionGrant>> {
    const answers = new Map<LimitAccount, PortionGrant>()
    if (asks.length === 0) return answers
    const { db, metrics, nowMs } = this.#options
    const sent = asks.map(([account]) => ({ account, question: account.asks(nowMs()) }))
    const awaited = () => sent.filter(({ account, question }) => account.isAskingFor(question))
    try {
      const grants = await takePortions(
        db,
        this.#edgeId,
        asks.map(([, ask]) => ask),
      )
      metrics.portionStatements.add({ outcome: 'ok' })
      for (const { account } of awaited()) {
        const { scopeId, kind } = account
        const grant = grants.find((each) => each.scopeId === scopeId && each.kind === kind)
        if (grant === undefined) throw new Error(`no answer about ${kind} of ${scopeId}`)
        account.learn(grant)
        answers.set(account, grant)
      }
      return answers
    } catch (error) {
      for (const { account } of awaited()) account.lost()
      metrics.portionStatements.add({ outcome: 'failed' })
      if (!isOutage(error)) throw error
      this.#offlineUntilMs = nowMs() + DATABASE_REST_MS
      return new Map()
    } finally {
      for (const { account, question } of sent) account.asked(question)
    }
  }

  async #settleAwaited(): Promise<void> {
    const { db, nowMs } = this.#options
    const awaited = [...this.#spend.values()].flatMap((account) =>
      account.awaited.map((request) => ({ account, request })),
    )
    const now = nowMs()
    const due = awaited.filter(({ request }) => now - request.endedMs >= UNKNOWN_COST_ASKED_MS)
    if (due.length === 0 || now < this.#offlineUntilMs) return
    const ids = due.slice(0, UPKEEP_ASKS_MAX).map(({ request }) => request.requestId)
    const charges = await findCharges(db, ids)
    for (const { account, request } of due) {
      const charge = charges.find(
        ({ requestId, attempt }) => requestId === request.requestId && attempt >= request.attempt,
      )
      if (charge !== undefined) account.settleAwaited(request, charge.amountPusd)
    }
  }

  #account<A extends LimitAccount>(
    accounts: Map<string, A>,
    key: string,
    limit: bigint,
    create: () => A,
  ): A {
    const account = accounts.get(key) ?? create()
    accounts.set(key, account)
    account.limit = limit
    account.usedMs = this.#options.nowMs()
    return account
  }

  #accounts(): LimitAccount[] {
    const kinds = [this.#rates, this.#concurrency, this.#spend]
    return kinds.flatMap((accounts): LimitAccount[] => [...accounts.values()])
  }

  #forgetIdle(now: number): void {
    for (const accounts of [this.#rates, this.#concurrency, this.#spend]) {
      for (const [key, account] of accounts) {
        const isOld = now - account.usedMs >= ACCOUNT_KEPT_MS
        if (isOld && !account.isAsking(now) && account.isIdle(now)) accounts.delete(key)
      }
    }
  }
}

/** False = too little is held here. */
function take(need: Need, holds: Map<Need, Hold>, now: number, isOffline: boolean): boolean {
  const { account, amount } = need
  const hold = account.take(amount, now) ?? (isOffline ? account.takeOffline(amount, now) : null)
  if (hold !== null) holds.set(need, hold)
  return hold !== null
}

function release(holds: ReadonlyMap<Need, Hold>): void {
  for (const hold of holds.values()) hold.end(0n)
}
