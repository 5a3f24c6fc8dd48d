import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHalf, HALF_MAX, toHalves } from './half-float.ts'

const bytesOf = (values: readonly number[]): Uint8Array =>
  new Uint8Array(Float32Array.from(values).buffer)

/** All finite halves as numbers, ascending. */
const HALVES = Array.from({ length: 0x7c00 }, (_, bits) => fromHalf(bits))

describe('toHalves', () => {
  it('keeps every finite F16 as it is, from F16 and from F32', () => {
    const bits = Uint16Array.from({ length: 0x7c00 * 2 }, (_, i) =>
      i < 0x7c00 ? i : (i - 0x7c00) | 0x8000,
    )
    const same = toHalves(new Uint8Array(bits.buffer), 'F16')
    const widened = toHalves(bytesOf([...bits].map(fromHalf)), 'F32')
    expect(same).toEqual({ isValid: true, halves: bits })
    expect(widened).toEqual({ isValid: true, halves: bits })
  })

  it('rounds to the nearest F16, ties to the even one', () => {
    const magnitude = fc.oneof(
      fc.float({ min: 0, max: HALF_MAX, noNaN: true }),
      fc.float({ min: 0, max: Math.fround(2 ** -13), noNaN: true }),
      fc.nat(HALVES.length - 2).map((i) => ((HALVES[i] ?? 0) + (HALVES[i + 1] ?? 0)) / 2),
    )
    fc.assert(
      fc.property(magnitude, fc.boolean(), (value, isNegative) => {
        const result = toHalves(bytesOf([isNegative ? -value : value]), 'F32')
        if (!result.isValid) return false
        const bits = (result.halves[0] ?? 0) & 0x7fff
        const error = Math.abs(fromHalf(bits) - value)
        const below = bits === 0 ? Infinity : Math.abs(fromHalf(bits - 1) - value)
        const above = bits === 0x7bff ? Infinity : Math.abs(fromHalf(bits + 1) - value)
        const isNearest = error <= below && error <= above
        const isTie = error === below || error === above
        const hasSign = ((result.halves[0] ?? 0) & 0x8000) !== 0
        return isNearest && (!isTie || bits % 2 === 0) && hasSign === isNegative
      }),
      { numRuns: 5000 },
    )
  })

  it('takes BF16 as the upper half of an F32', () => {
    const result = toHalves(Uint8Array.of(0x80, 0x3f, 0x20, 0xc0), 'BF16')
    expect(result.isValid && [...result.halves].map(fromHalf)).toEqual([1, -2.5])
  })

  it.each([
    ['nan', bytesOf([1, Number.NaN]), 'F32'],
    ['infinite', bytesOf([1, Number.NEGATIVE_INFINITY]), 'F32'],
    ['overflow', bytesOf([HALF_MAX, 65_505]), 'F32'],
    ['nan', Uint8Array.of(0, 0x3c, 1, 0x7c), 'F16'],
    ['infinite', Uint8Array.of(0, 0x3c, 0, 0xfc), 'F16'],
    ['nan', Uint8Array.of(0x80, 0x3f, 0xc0, 0x7f), 'BF16'],
    ['infinite', Uint8Array.of(0x80, 0x3f, 0x80, 0x7f), 'BF16'],
    ['overflow', Uint8Array.of(0x80, 0x3f, 0x80, 0x47), 'BF16'],
  ] as const)('refuses %s and says where', (problem, bytes, type) => {
    expect(toHalves(bytes, type)).toEqual({ isValid: false, problem, index: 1 })
  })
})
