/** What a client hears when a limit holds: which one, whose, and whether to try again. */
import { databaseUnavailable, EdgeError } from '../errors.ts'
import type { LimitKind } from './limit-account.ts'
import type { Acquired, Need } from './limiter.ts'
import { toDuration } from './rate-headers.ts'

const NAMES: Readonly<Record<Exclude<LimitKind, 'spend'>, string>> = {
  requests: 'requests per minute',
  tokens: 'tokens per minute',
  concurrency: 'requests at once',
}

/** Shorter, and SDKs spend their few retries at once. */
const RETRY_MS_MIN = 250

export function toRefusal(acquired: Exclude<Acquired, { type: 'held' }>): EdgeError {
  if (acquired.type === 'offline') return databaseUnavailable()
  const { need, refusal } = acquired
  const { kind, scopeId, limit } = need.account
  const whose = scopeId.startsWith('key_') ? 'this API key' : 'the tenant'
  const retryAfterMs = refusal.retryAfterMs && Math.max(refusal.retryAfterMs, RETRY_MS_MIN)
  if (kind === 'spend') {
    if (!refusal.isExhausted) {
      const message = `Requests under way hold the rest of the monthly budget of ${whose}. Please retry.`
      return new EdgeError('rate_limit_exceeded', message, { retryAfterMs })
    }
    const message = `The monthly budget of ${whose} is used up, or too small for what this request can cost at most. Lower "max_tokens", or have the budget raised.`
    return new EdgeError('insufficient_quota', message)
  }
  const reached = `The limit of ${limit} ${NAMES[kind]} of ${whose} is reached.`
  if (retryAfterMs !== null) {
    const when = `Please retry in ${toDuration(retryAfterMs)}.`
    return new EdgeError('rate_limit_exceeded', `${reached} ${when}`, { retryAfterMs })
  }
  return new EdgeError('rate_limit_exceeded', tooLarge(need), { shouldRetry: false })
}

function tooLarge({ account, amount }: Need): string {
  const name = account.kind === 'spend' ? 'budget' : NAMES[account.kind]
  return `This request can take ${amount} of ${account.limit} ${name}. Lower "max_tokens", shorten the prompt, or have the limit raised.`
}
