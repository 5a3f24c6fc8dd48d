/** What a client hears when a limit holds: which one, whose, and whether to try again. */
import { parseBillingPeriod } from '#db/billing-period.ts'
import { formatUsd } from '#db/money.ts'
import { databaseUnavailable, EdgeError } from '../errors.ts'
import type { Refusal } from './limit-account.ts'
import type { Acquired, Need } from './limiter.ts'
import { toDuration } from './rate-headers.ts'
import type { SpendAccount } from './spend-account.ts'

type RateAccount = Exclude<Need['account'], SpendAccount>

const NAMES: Readonly<
  Record<RateAccount['kind'], { readonly unit: string; readonly per: string }>
> = {
  requests: { unit: 'request', per: 'per minute' },
  tokens: { unit: 'token', per: 'per minute' },
  concurrency: { unit: 'request', per: 'at once' },
}

/** Shorter, and SDKs spend their few retries at once. */
const RETRY_MS_MIN = 250

export function toRefusal(acquired: Exclude<Acquired, { type: 'held' }>): EdgeError {
  if (acquired.type === 'offline') return databaseUnavailable()
  const { need, refusal } = acquired
  const { account, amount } = need
  return account.kind === 'spend'
    ? budgetRefusal(account, amount, refusal)
    : rateRefusal(account, amount, refusal)
}

/** @param cost most that the request can cost, pico-USD */
function budgetRefusal(account: SpendAccount, cost: bigint, refusal: Refusal): EdgeError {
  const budget = `monthly budget of ${ownerOf(account)}`
  if (refusal.spentPusd === null) {
    const message = `Requests under way hold the rest of the ${budget}. Please retry.`
    return new EdgeError('rate_limit_exceeded', message, { retryAfterMs: waitOf(refusal) })
  }
  const { limit } = account
  if (limit === 0n) {
    const message = `The ${budget} is 0.00 USD: nothing may be spent. Have it raised.`
    return new EdgeError('insufficient_quota', message)
  }
  const left = limit - refusal.spentPusd
  const charged = `${formatUsd(refusal.spentPusd)} of ${formatUsd(limit)} USD are charged`
  const anew = `it starts anew on ${monthAfter(account.month)} (UTC)`
  const message =
    left > 0n
      ? `This request can cost up to ${formatUsd(cost)} USD, and only ${formatUsd(left)} USD of the ` +
        `${budget} are left (${charged}; ${anew}). ` +
        'Lower "max_tokens", shorten the prompt, or have the budget raised.'
      : `The ${budget} is used up: ${charged}, ${anew}. Have it raised, or wait until then.`
  return new EdgeError('insufficient_quota', message)
}

function rateRefusal(account: RateAccount, amount: bigint, refusal: Refusal): EdgeError {
  const { unit, per } = NAMES[account.kind]
  const { limit } = account
  const owner = ownerOf(account)
  const retryAfterMs = waitOf(refusal)
  if (retryAfterMs !== null) {
    const reached = `The limit of ${countOf(limit, unit)} ${per} of ${owner} is reached.`
    const message = `${reached} Please retry in ${toDuration(retryAfterMs)}.`
    return new EdgeError('rate_limit_exceeded', message, { retryAfterMs })
  }
  const message =
    limit === 0n
      ? `${owner} may make no requests: its limit is 0 ${unit}s ${per}. Have the limit raised.`
      : `This request can take up to ${countOf(amount, unit)}, more than the limit of ` +
        `${countOf(limit, unit)} ${per} of ${owner}. ` +
        'Lower "max_tokens", shorten the prompt, or have the limit raised.'
  return new EdgeError('rate_limit_exceeded', capitalized(message), { shouldRetry: false })
}

function ownerOf({ scopeId }: Need['account']): string {
  return scopeId.startsWith('key_') ? 'this API key' : 'the tenant'
}

/** null = as long as the limit is what it is, no time helps. */
function waitOf({ retryAfterMs }: Refusal): number | null {
  return retryAfterMs && Math.max(retryAfterMs, RETRY_MS_MIN)
}

/** `2026-11` → `2026-12-01` */
function monthAfter(month: string): string {
  const period = parseBillingPeriod(month)
  return period === null ? 'the first of the next month' : period.end.toISOString().slice(0, 10)
}

function countOf(count: bigint, unit: string): string {
  return `${count} ${unit}${count === 1n ? '' : 's'}`
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}
