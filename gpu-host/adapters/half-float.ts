/**
 * Pure: weights of any accepted type → F16 bits. Rounds to nearest, ties to even; refuses what F16
 * cannot say (NaN, Inf, beyond ±65504), because one such weight would poison every row it meets.
 */
export type TensorType = 'F32' | 'F16' | 'BF16'

export const TENSOR_TYPE_BYTES: Readonly<Record<TensorType, number>> = { F32: 4, F16: 2, BF16: 2 }
export const HALF_MAX = 65_504

export type HalfProblem = 'nan' | 'infinite' | 'overflow'
export type HalfConversion =
  | { readonly isValid: true; readonly halves: Uint16Array<ArrayBuffer> }
  | { readonly isValid: false; readonly problem: HalfProblem; readonly index: number }

const F32_INFINITY = 0x7f80_0000
const F32_HALF_MAX = 0x477f_e000
/** 2^-14, the least normal F16. */
const F32_HALF_NORMAL_MIN = 0x3880_0000
const HALF_INFINITY = 0x7c00

/** `bytes` holds little-endian values of `type`, whole ones only. */
export function toHalves(bytes: Uint8Array, type: TensorType): HalfConversion {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const width = TENSOR_TYPE_BYTES[type]
  const halves = new Uint16Array(bytes.byteLength / width)
  for (let index = 0; index < halves.length; index += 1) {
    const at = index * width
    if (type === 'F16') {
      const half = view.getUint16(at, true)
      if ((half & HALF_INFINITY) === HALF_INFINITY) {
        const problem = (half & 0x3ff) === 0 ? 'infinite' : 'nan'
        return { isValid: false, problem, index }
      }
      halves[index] = half
      continue
    }
    const bits = type === 'F32' ? view.getUint32(at, true) : view.getUint16(at, true) << 16
    const magnitude = bits & 0x7fff_ffff
    if (magnitude > F32_HALF_MAX) return { isValid: false, problem: toProblem(magnitude), index }
    halves[index] = ((bits >>> 16) & 0x8000) | roundToHalf(magnitude)
  }
  return { isValid: true, halves }
}

function toProblem(magnitude: number): HalfProblem {
  if (magnitude > F32_INFINITY) return 'nan'
  return magnitude === F32_INFINITY ? 'infinite' : 'overflow'
}

/** Bits of a finite, positive F32 of at most HALF_MAX → F16 bits. */
function roundToHalf(magnitude: number): number {
  if (magnitude >= F32_HALF_NORMAL_MIN) {
    // The exponents' biases differ by 112; the mantissas by 13 bits.
    return roundOff(magnitude - (112 << 23), 13)
  }
  const exponent = magnitude >>> 23
  // Subnormal F16 counts in units of 2^-24: the mantissa, its hidden bit set, moves right.
  const shift = 126 - exponent
  if (shift > 25) return 0
  return roundOff((magnitude & 0x7f_ffff) | 0x80_0000, shift)
}

/** Drops `bits` low bits, to nearest, ties to even. A carry runs into the exponent, as it must. */
function roundOff(value: number, bits: number): number {
  const kept = value >>> bits
  const rest = value & ((1 << bits) - 1)
  const half = 1 << (bits - 1)
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept
}

export function fromHalf(half: number): number {
  const sign = (half & 0x8000) === 0 ? 1 : -1
  const exponent = (half >>> 10) & 0x1f
  const mantissa = half & 0x3ff
  if (exponent === 0) return sign * mantissa * 2 ** -24
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1024 + mantissa) * 2 ** (exponent - 25)
}
