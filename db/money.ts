/**
 * Money is a bigint of pico-USD (10⁻¹² USD): a token's price is then an integer even at a cent per
 * million tokens, and no sum is ever rounded. Rounding happens once, where a person reads it.
 */

/** Pico-USD of one US dollar. */
export const PUSD_PER_USD = 1_000_000_000_000n
/** Pico-USD of one cent, which is what an invoice's line is rounded to. */
export const PUSD_PER_CENT = PUSD_PER_USD / 100n
/** Tokens that people state a price for. */
const TOKENS_PER_PRICE = 1_000_000n
/** What a price's column can hold. */
const PRICE_PUSD_MAX = 2n ** 63n - 1n

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

/**
 * To the nearest whole cent, half away from zero, still in pico-USD: the one rounding of an
 * invoice's line. The same rule as the SQL in queries/invoice-lines.ts.
 */
export function roundToCent(pusd: bigint): bigint {
  const magnitude = pusd < 0n ? -pusd : pusd
  const cents = (magnitude + PUSD_PER_CENT / 2n) / PUSD_PER_CENT
  return (pusd < 0n ? -cents : cents) * PUSD_PER_CENT
}

/**
 * `0.10` US dollars per million tokens → pico-USD per token; null when the text is no amount, is
 * below zero, or has more than the six decimals that a whole pico-USD allows.
 */
export function parseUsdPerMillion(text: string): bigint | null {
  const perMillion = parseUsd(text)
  if (perMillion === null || perMillion % TOKENS_PER_PRICE !== 0n) return null
  const price = perMillion / TOKENS_PER_PRICE
  return price > PRICE_PUSD_MAX ? null : price
}

/** The price of a token as people compare it: US dollars per million tokens, `0.10`. */
export function formatUsdPerMillion(pusdPerToken: bigint): string {
  return formatUsd(pusdPerToken * TOKENS_PER_PRICE)
}

function toBigInt(tokens: number): bigint {
  if (!Number.isSafeInteger(tokens) || tokens < 0) throw new RangeError('not a count of tokens')
  return BigInt(tokens)
}
