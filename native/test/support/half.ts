/** IEEE 754 binary16 by bits, for finite values that fit: what weights are stored as. */

const HALF_MAX = 65_504
const single = new Float32Array(1)
const singleBits = new Uint32Array(single.buffer)

/** Rounds to nearest, ties to even. Throws a RangeError for what binary16 cannot hold. */
export function toHalfBits(value: number): number {
  const magnitude = Math.abs(value)
  if (!(magnitude <= HALF_MAX)) throw new RangeError(`${value} does not fit binary16`)
  single[0] = value
  const bits = singleBits[0] ?? 0
  const sign = (bits >>> 16) & 0x8000
  if (magnitude < 2 ** -14) return sign | roundTiesToEven(magnitude * 2 ** 24)
  const rounded = (bits & 0x7fff_ffff) + 0xfff + ((bits >>> 13) & 1)
  return sign | ((rounded >>> 13) - (112 << 10))
}

export function fromHalfBits(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f
  const fraction = bits & 0x3ff
  const magnitude =
    exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return bits & 0x8000 ? -magnitude : magnitude
}

function roundTiesToEven(value: number): number {
  const below = Math.floor(value)
  const rest = value - below
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below
}
