/**
 * Whether a request may begin: what it needs of each limit of its tenant and key is taken before a
 * host hears of it, and given back or settled once, whichever way it ends.
 */
import { costOf, type TokenPrices } from '#db/money.ts'
import type { ScopeLimits } from '#db/queries/limits.ts'
import type { GenerateRequest, Usage } from '#protocol'
import { type EdgeError, type EdgeErrorCode, errorText } from '../errors.ts'
import {
  IDLE_PORTION_MS,
  UNBEGUN_COST_KEPT_MS,
  UNKNOWN_COST_KEPT_MS,
  UPKEEP_INTERVAL_MS,
} from '../limits.ts'
import type { Log } from '../log.ts'
import type { EdgeMetrics } from '../metrics.ts'
import type { AwaitedRequest } from './limit-account.ts'
import type { Acquired, Limiter, Need } from './limiter.ts'
import { RateAccount } from './rate-account.ts'
import { toRateHeaders } from './rate-headers.ts'
import { toRefusal } from './refusals.ts'
import { type TokenBound, tokenBound } from './request-bound.ts'

export interface AdmissionCall {
  readonly limits: readonly ScopeLimits[]
  readonly request: Pick<GenerateRequest, 'input' | 'n' | 'max_tokens'>
  /** `YYYY-MM` of the request's id. */
  readonly month: string
  /** Promised to the request; null = it costs nothing. */
  readonly price: TokenPrices | null
  /** Of the base model, in tokens. */
  readonly contextLength: number
  /** Given the headers that the reply carries, whatever becomes of the request. */
  readonly tell: (headers: Readonly<Record<string, string>>) => void
}

export type Outcome =
  /** As the host counted it. */
  | { readonly type: 'answered'; readonly usage: Usage }
  /** No host began it: nothing is billed. */
  | { readonly type: 'refused' }
  /** What is billed for it the ledger will tell. */
  | {
      readonly type: 'unknown'
      readonly requestId: string
      readonly attempt: number
      /** A token was seen of it, so that an event is sure to come. */
      readonly hasBegun: boolean
    }

export interface Admitted {
  readonly leaseIds: string[]
  /** Only the first call counts. */
  settle(outcome: Outcome): void
}

export interface AdmissionOptions {
  readonly limiter: Limiter
  readonly metrics: EdgeMetrics
  readonly log: Log
  /** Monotonic. */
  readonly nowMs: () => number
}

/** Codes of a host's or the pool's refusal before anything was generated. */
const NOTHING_BILLED: ReadonlySet<EdgeErrorCode> = new Set([
  'invalid_request',
  'context_length_exceeded',
  'payload_too_large',
  'adapter_invalid',
  'no_host_available',
  'overloaded',
  'adapter_unavailable',
  'deadline_exceeded',
] as const)

/** Whether a request that failed so before its first token is billed for nothing. */
export function isUnbilled(error: EdgeError): boolean {
  return NOTHING_BILLED.has(error.code)
}

export class Admission {
  readonly #options: AdmissionOptions
  #upkeepMs = Number.NEGATIVE_INFINITY

  constructor(options: AdmissionOptions) {
    this.#options = options
  }

  /**
   * Throws `rate_limit_exceeded` or `insufficient_quota`; during an outage also
   * `database_unavailable`, once what this edge may spend in it is spent.
   */
  async admit(call: AdmissionCall): Promise<Admitted> {
    const { limiter, metrics, nowMs } = this.#options
    const bound = tokenBound(call.request, call.contextLength)
    const needs = this.#needs(call, bound)
    const acquired = needs.length === 0 ? NOTHING_HELD : await limiter.acquire(needs)
    const accounts = needs.flatMap(({ account }) =>
      account instanceof RateAccount ? [account] : [],
    )
    call.tell(toRateHeaders(accounts, nowMs()))
    if (acquired.type !== 'held') {
      const kind = acquired.type === 'offline' ? acquired.type : acquired.need.account.kind
      metrics.limitRefusals.add({ kind })
      throw toRefusal(acquired)
    }
    const { holds } = acquired
    let isSettled = false
    return {
      leaseIds: holds.flatMap(({ leaseId }) => leaseId ?? []),
      settle: (outcome) => {
        if (isSettled) return
        isSettled = true
        const endedMs = nowMs()
        for (const [index, need] of needs.entries()) {
          const hold = holds[index]
          if (outcome.type === 'unknown') hold?.leave(toAwaited(outcome, endedMs))
          else hold?.end(usedOf(need, outcome, call.price))
        }
      },
    }
  }

  /**
   * Gives back what lies idle and renews what does not, as long as there is any. Call it after each
   * admission: one such loop runs at a time. Never rejects.
   */
  async upkeep(): Promise<void> {
    const { limiter, log, nowMs } = this.#options
    // A Worker may end a loop without a word; then a later call takes over.
    if (nowMs() - this.#upkeepMs < 3 * UPKEEP_INTERVAL_MS) return
    for (let isBusy = true; isBusy; ) {
      this.#upkeepMs = nowMs()
      await new Promise((resolve) => setTimeout(resolve, UPKEEP_INTERVAL_MS))
      try {
        isBusy = await limiter.upkeep()
      } catch (error) {
        log('error', 'limits were not reported', { reason: errorText(error) })
      }
    }
    this.#upkeepMs = Number.NEGATIVE_INFINITY
  }

  /** Gives back what no request holds: this edge is about to end. Never rejects. */
  async close(): Promise<void> {
    const { limiter, log } = this.#options
    try {
      await limiter.upkeep(IDLE_PORTION_MS)
    } catch (error) {
      log('warn', 'limits were not given back', { reason: errorText(error) })
    }
  }

  #needs(call: AdmissionCall, bound: TokenBound): Need[] {
    const { limiter } = this.#options
    const tokens = BigInt(bound.promptTokens + bound.completionTokens)
    const cost = call.price === null ? 0n : costBound(bound, call.price)
    return call.limits.flatMap((limits): Need[] => {
      const { scopeId, requestsPerMinute, tokensPerMinute, concurrency, monthlySpendPusd } = limits
      const needs: Need[] = []
      if (concurrency !== null) {
        needs.push({ account: limiter.concurrency(scopeId, BigInt(concurrency)), amount: 1n })
      }
      if (requestsPerMinute !== null) {
        const account = limiter.rate('requests', scopeId, BigInt(requestsPerMinute))
        needs.push({ account, amount: 1n })
      }
      if (tokensPerMinute !== null) {
        const account = limiter.rate('tokens', scopeId, BigInt(tokensPerMinute))
        needs.push({ account, amount: tokens })
      }
      if (monthlySpendPusd !== null && cost > 0n) {
        const account = limiter.spend(scopeId, monthlySpendPusd, call.month)
        needs.push({ account, amount: cost })
      }
      return needs
    })
  }
}

const NOTHING_HELD = { type: 'held', holds: [] } as const satisfies Acquired

function costBound(bound: TokenBound, price: TokenPrices): bigint {
  const { promptPusd, cachedPromptPusd } = price
  // biome-ignore lint/complexity/useMathMinMax: Math.max takes no bigint.
  const perPrompt = promptPusd > cachedPromptPusd ? promptPusd : cachedPromptPusd
  return (
    BigInt(bound.promptTokens) * perPrompt + BigInt(bound.completionTokens) * price.completionPusd
  )
}

function toAwaited(
  { requestId, attempt, hasBegun }: Extract<Outcome, { type: 'unknown' }>,
  endedMs: number,
): AwaitedRequest {
  const keptMs = hasBegun ? UNKNOWN_COST_KEPT_MS : UNBEGUN_COST_KEPT_MS
  return { requestId, attempt, endedMs, untilMs: endedMs + keptMs }
}

/** A request counts, whatever came of it; a place among those at once is given back whole. */
function usedOf(
  { account, amount }: Need,
  outcome: Exclude<Outcome, { type: 'unknown' }>,
  price: TokenPrices | null,
): bigint {
  if (account.kind === 'requests') return amount
  if (outcome.type === 'refused') return 0n
  const { prompt_tokens: promptTokens, completion_tokens: completionTokens } = outcome.usage
  if (account.kind === 'tokens') return BigInt(promptTokens + completionTokens)
  const cachedPromptTokens = outcome.usage.cached_prompt_tokens
  const tokens = { promptTokens, cachedPromptTokens, completionTokens }
  return price === null ? 0n : costOf(tokens, price)
}
