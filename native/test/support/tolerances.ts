/**
 * How far logits may lie apart, in one table: largest difference of a log probability, relative to
 * the row's spread (support/logprobs.ts). Figures measured on TINY shapes, 56 positions, base and
 * adapters, x86-64 with AVX-512; each bound is two to three times the figure.
 *
 * `float64`: engine against the naive float64 model, which rounds nothing but cached keys and values.
 *   F32   6.0e-5  a key or value that falls on the other side of an F16 rounding.
 *   F16   9.5e-4  ggml rounds activations to F16 before each product.
 *   Q8_0  2.5e-2  ggml rounds activations to Q8_0 (8 bits, a scale per 32) before each product.
 * `libllama`: engine against libllama's flash attention, same files.
 *   F32   2.2e-3  all of it libllama's: it adds up values in F16, and lies as far from float64.
 *   F16   2.7e-3  the same and the rounded activations.
 *   Q8_0  1.9e-2  the differences above re-roll the 8-bit roundings; both lie 2.5e-2 from float64.
 */
import type { TensorType } from './gguf-writer.ts'

export interface Tolerance {
  readonly float64: number
  readonly libllama: number
}

export const TOLERANCES: Record<TensorType, Tolerance> = {
  F32: { float64: 2e-4, libllama: 5e-3 },
  F16: { float64: 2e-3, libllama: 6e-3 },
  Q8_0: { float64: 5e-2, libllama: 4e-2 },
}

/**
 * A step of ONE row (or one output) goes through ggml's dot product, two and more through its tiled
 * product. On x86 the two give equal bits with Q8_0 weights; with F32 they differ by 4e-7, with F16
 * by 6e-8, which a rounding of activations can raise to 6e-4. Rows in company of any other rows
 * always give equal bits.
 */
export const LONE_ROW_TOLERANCES: Record<TensorType, number> = {
  F32: 1e-4,
  F16: 2e-3,
  Q8_0: process.arch === 'x64' ? 0 : 2e-2,
}
