/**
 * Money is a bigint of pico-USD (10⁻¹² USD): a token's price is then an integer even at a cent per
 * million tokens, and no sum is ever rounded. Rounding happens once, where a person reads it.
 */

/** Pico-USD of one US dollar. */
export const PUSD_PER_USD = 1_000_000_000_000n

/** Pico-USD per token of each kind. */
export interface TokenPrices {
  readonly promptPusd: bigint
  readonly cachedPromptPusd: bigint
  readonly completionPusd: bigint
}

/** Tokens of one request; cached ones are a subset of the prompt's. */
export interface TokenCounts {
  readonly promptTokens: number
  readonly cachedPromptTokens: number
  readonly completionTokens: number
}

/** What the tokens cost; the same rule as the ledger's SQL in queries/usage.ts. */
export function costOf(tokens: TokenCounts, prices: TokenPrices): bigint {
  const prompt = toBigInt(tokens.promptTokens)
  const reported = toBigInt(tokens.cachedPromptTokens)
  // biome-ignore lint/complexity/useMathMinMax: Math.min takes no bigint.
  const cached = reported < prompt ? reported : prompt
  return (
    (prompt - cached) * prices.promptPusd +
    cached * prices.cachedPromptPusd +
    toBigInt(tokens.completionTokens) * prices.completionPusd
  )
}

/** `1234567890000n` → `1.23456789`: exact, at least two decimals, no currency sign. */
export function formatUsd(pusd: bigint): string {
  const magnitude = pusd < 0n ? -pusd : pusd
  const whole = magnitude / PUSD_PER_USD
  const fraction = (magnitude % PUSD_PER_USD).toString().padStart(12, '0').replace(/0+$/, '')
  return `${pusd < 0n ? '-' : ''}${whole}.${fraction.padEnd(2, '0')}`
}

/** `1.23456789` → `1234567890000n`. null = not a decimal amount ≥ 0 of at most 12 decimals. */
export function parseUsd(text: string): bigint | null {
  const [, whole, fraction = ''] = /^(\d{1,15})(?:\.(\d{1,12}))?$/.exec(text) ?? []
  if (whole === undefined) return null
  return BigInt(whole) * PUSD_PER_USD + BigInt(fraction.padEnd(12, '0'))
}

function toBigInt(tokens: number): bigint {
  if (!Number.isSafeInteger(tokens) || tokens < 0) throw new RangeError('not a count of tokens')
  return BigInt(tokens)
}
