import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  costOf,
  formatUsd,
  formatUsdPerMillion,
  PUSD_PER_CENT,
  PUSD_PER_USD,
  parseUsd,
  parseUsdPerMillion,
  roundToCent,
} from './money.ts'

describe('formatUsd', () => {
  it.each([
    [0n, '0.00'],
    [1n, '0.000000000001'],
    [PUSD_PER_USD, '1.00'],
    [1_234_567_890_000n, '1.23456789'],
    [-1_500_000_000_000n, '-1.50'],
    [-1n, '-0.000000000001'],
    [10n ** 30n, '1000000000000000000.00'],
  ])('writes %s as %s', (pusd, text) => {
    expect(formatUsd(pusd)).toBe(text)
  })

  it('loses nothing', () => {
    fc.assert(
      fc.property(fc.bigInt(), (pusd) => {
        const [whole = '', fraction = ''] = formatUsd(pusd).split('.')
        expect(BigInt(whole + fraction.padEnd(12, '0'))).toBe(pusd)
      }),
    )
  })
})

describe('parseUsd', () => {
  it('reads what formatUsd writes', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 26n }), (pusd) => {
        expect(parseUsd(formatUsd(pusd))).toBe(pusd)
      }),
    )
  })

  it.each(['', '-1', '1.', '.5', '1e3', '0.0000000000001', '1,5', ' 1'])('refuses "%s"', (text) => {
    expect(parseUsd(text)).toBeNull()
  })
})

describe('costOf', () => {
  const prices = { promptPusd: 100n, cachedPromptPusd: 10n, completionPusd: 1000n }

  it('charges cached prompt tokens at their own price, and once', () => {
    const tokens = { promptTokens: 7, cachedPromptTokens: 3, completionTokens: 2 }
    expect(costOf(tokens, prices)).toBe(4n * 100n + 3n * 10n + 2n * 1000n)
  })

  it.each([-1, 0.5, 2 ** 53, Number.NaN])('refuses %s as a count of tokens', (promptTokens) => {
    const tokens = { promptTokens, cachedPromptTokens: 0, completionTokens: 0 }
    expect(() => costOf(tokens, prices)).toThrow(RangeError)
  })
})

describe('roundToCent', () => {
  const half = PUSD_PER_CENT / 2n
  it.each([
    [0n, 0n],
    [half - 1n, 0n],
    [half, 1n],
    [half + 1n, 1n],
    [3n * half - 1n, 1n],
    [3n * half, 2n],
    [-half + 1n, 0n],
    [-half, -1n],
    [-3n * half, -2n],
  ])('rounds %s pico-USD to %s cents', (pusd, cents) => {
    expect(roundToCent(pusd)).toBe(cents * PUSD_PER_CENT)
  })

  it('gives the nearest cent, the same for both signs, and of a cent itself', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 38n), max: 10n ** 38n }), (pusd) => {
        const rounded = roundToCent(pusd)
        const error = rounded - pusd
        expect(rounded % PUSD_PER_CENT).toBe(0n)
        expect(error >= -half && error <= half).toBe(true)
        // Half way: away from zero, so never towards it.
        if (error === half || error === -half) expect(rounded > pusd).toBe(pusd > 0n)
        expect(roundToCent(-pusd)).toBe(-rounded)
        expect(roundToCent(rounded)).toBe(rounded)
      }),
    )
  })
})

describe('prices per million tokens', () => {
  it.each([
    ['0.10', 100_000n],
    ['0.4', 400_000n],
    ['12', 12_000_000n],
    ['0', 0n],
    ['0.000001', 1n],
    ['9223372036854.775807', 2n ** 63n - 1n],
  ])('reads %s USD as %s pico-USD per token', (text, pusd) => {
    expect(parseUsdPerMillion(text)).toBe(pusd)
  })

  it.each(['', '-1', '+1', '1.', '.5', '1e3', '0.0000001', '1,5', '0x1', '9223372036854.775808'])(
    'refuses %j',
    (text) => expect(parseUsdPerMillion(text)).toBeNull(),
  )

  it('are read back as they are written', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), (pusd) => {
        expect(parseUsdPerMillion(formatUsdPerMillion(pusd))).toBe(pusd)
      }),
    )
  })
})
