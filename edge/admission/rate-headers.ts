/** `x-ratelimit-…`, as OpenAI's clients read them: of the limit that leaves the least. */
import type { RateAccount } from './rate-account.ts'

const KINDS = ['requests', 'tokens'] as const

/** All that there may be. */
export const RATE_HEADERS: readonly string[] = KINDS.flatMap((kind) =>
  ['limit', 'remaining', 'reset'].map((what) => `x-ratelimit-${what}-${kind}`),
)

export function toRateHeaders(
  accounts: readonly RateAccount[],
  nowMs: number,
): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const kind of KINDS) {
    const [tightest] = accounts
      .filter((account) => account.kind === kind)
      .sort((a, b) => (a.remaining(nowMs) < b.remaining(nowMs) ? -1 : 1))
    if (tightest === undefined) continue
    headers[`x-ratelimit-limit-${kind}`] = String(tightest.limit)
    headers[`x-ratelimit-remaining-${kind}`] = String(tightest.remaining(nowMs))
    headers[`x-ratelimit-reset-${kind}`] = toDuration(tightest.resetMs(nowMs))
  }
  return headers
}

/** `350ms`, `7s`, `1m5s`. */
export function toDuration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`
  const seconds = Math.ceil(ms / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`
}
