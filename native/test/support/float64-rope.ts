/**
 * Rotary position embeddings in float64, from their definitions: RoFormer for the rotation, YaRN
 * (sections 3.2 to 3.4) and LongRoPE for longer contexts. Pure.
 */
import type { SyntheticShape } from './synthetic-gguf.ts'

export interface Angles {
  /** Radians per position, of each pair. */
  readonly frequencies: Float64Array
  /** Of the rotated values. */
  readonly magnitude: number
  /** Where the second value of pair `i` stands from the first, and how far pairs lie apart. */
  readonly partner: number
  readonly stride: number
}

/** Turns per original context beyond which YaRN leaves a pair alone, and below which it scales. */
const YARN_FAST_TURNS = 32
const YARN_SLOW_TURNS = 1

export function ropeAngles(
  { architecture, headLength, ropeBase, ropeScaling }: SyntheticShape,
  contextLength: number,
  tensor: (name: string) => Float64Array,
): Angles {
  const half = headLength / 2
  const plain = Float64Array.from({ length: half }, (_, pair) => ropeBase ** (-pair / half))
  const layout = architecture === 'llama' ? { partner: 1, stride: 2 } : { partner: half, stride: 1 }
  const dividedBy = (name: string) => {
    const divisors = tensor(name)
    return plain.map((frequency, pair) => frequency / (divisors[pair] ?? 1))
  }
  switch (ropeScaling.type) {
    case 'none':
      return { ...layout, frequencies: plain, magnitude: 1 }
    case 'divisors':
      return { ...layout, frequencies: dividedBy('rope_freqs.weight'), magnitude: 1 }
    case 'linear': {
      const frequencies = plain.map((frequency) => frequency / ropeScaling.factor)
      return { ...layout, frequencies, magnitude: 1 }
    }
    case 'longrope': {
      const kind = contextLength > ropeScaling.originalContextLength ? 'long' : 'short'
      const frequencies = dividedBy(`rope_factors_${kind}.weight`)
      return { ...layout, frequencies, magnitude: ropeScaling.attentionFactor }
    }
    case 'yarn': {
      const { factor, originalContextLength } = ropeScaling
      // The pair that makes so many turns within the original context.
      const pairOf = (turns: number) =>
        (half * Math.log(originalContextLength / (turns * 2 * Math.PI))) / Math.log(ropeBase)
      const first = Math.max(0, Math.floor(pairOf(YARN_FAST_TURNS)))
      const last = Math.min(headLength - 1, Math.ceil(pairOf(YARN_SLOW_TURNS)))
      const frequencies = plain.map((frequency, pair) => {
        const ramp = (pair - first) / Math.max(0.001, last - first)
        const scaledShare = Math.min(1, Math.max(0, ramp))
        return (frequency / factor) * scaledShare + frequency * (1 - scaledShare)
      })
      return { ...layout, frequencies, magnitude: 1 + 0.1 * Math.log(factor) }
    }
  }
}

/** One head at a position. */
export function rotate(
  head: Float64Array,
  position: number,
  { frequencies, magnitude, partner, stride }: Angles,
): Float64Array {
  const out = new Float64Array(head.length)
  for (const [pair, frequency] of frequencies.entries()) {
    const at = pair * stride
    const cosine = Math.cos(position * frequency) * magnitude
    const sine = Math.sin(position * frequency) * magnitude
    const [first, second] = [head[at] ?? 0, head[at + partner] ?? 0]
    out[at] = first * cosine - second * sine
    out[at + partner] = first * sine + second * cosine
  }
  return out
}
