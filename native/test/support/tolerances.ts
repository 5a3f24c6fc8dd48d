/**
 * How far logits may lie apart, in one table: largest difference of a log probability, relative to
 * the row's spread (logprobs.ts). Figures were measured on TINY shapes: three prompts, 56 positions
 * each, base and six adapters, x86-64 with AVX-512; each bound is about twice the figure.
 *
 * `float64`: engine against the naive float64 model, which rounds nothing but cached keys and
 * values. `libllama`: engine against libllama's flash attention, same files.
 *   F32, F16, BF16   float64 1.9e-4: a key or value falls on the other side of an F16 rounding.
 *                    libllama 2.2e-3, 2.7e-3, 4.8e-3: it adds up values in F16, and rounds
 *                    activations to the weights' type before each product.
 *   others           1.3e-2 to 3.4e-2 (mean 1e-2): activations are rounded to 8 bits before each
 *                    product, in blocks of 32 or 256; small differences re-roll these roundings.
 * The adapter files hold F32, so that libllama too leaves the activations of A and B unrounded.
 */
import type { TensorType } from './gguf-writer.ts'

export interface Tolerance {
  readonly float64: number
  readonly libllama: number
}

const ROUNDED_TO_8_BITS: Tolerance = { float64: 6e-2, libllama: 6.5e-2 }

/** Every type that the engine serves; 55.types.test.ts goes through the keys. */
export const TOLERANCES: Record<TensorType, Tolerance> = {
  F32: { float64: 5e-4, libllama: 5e-3 },
  F16: { float64: 5e-4, libllama: 6e-3 },
  BF16: { float64: 5e-4, libllama: 1e-2 },
  Q4_0: ROUNDED_TO_8_BITS,
  Q4_1: ROUNDED_TO_8_BITS,
  Q5_0: ROUNDED_TO_8_BITS,
  Q5_1: ROUNDED_TO_8_BITS,
  Q8_0: ROUNDED_TO_8_BITS,
  Q2_K: ROUNDED_TO_8_BITS,
  Q3_K: ROUNDED_TO_8_BITS,
  Q4_K: ROUNDED_TO_8_BITS,
  Q5_K: ROUNDED_TO_8_BITS,
  Q6_K: ROUNDED_TO_8_BITS,
  IQ3_XXS: ROUNDED_TO_8_BITS,
  IQ3_S: ROUNDED_TO_8_BITS,
  IQ4_NL: ROUNDED_TO_8_BITS,
  IQ4_XS: ROUNDED_TO_8_BITS,
}

/**
 * The same on SmolLM2-135M-Instruct in Q4_1 with the example adapters, 16 positions each.
 * Activations are rounded to 8 bits before each product, as with Q8_0, in 30 layers instead of 2.
 *   largest  base 3.0e-2, adapters 2.3e-2 to 2.9e-2
 *   mean     base 1.7e-2, adapters 1.5e-2 to 2.0e-2
 * Two of these models lie 1.8e-1 to 7.9e-1 apart.
 */
export const REAL_TOLERANCE = { libllama: 6e-2, libllamaMean: 3e-2 } as const

/**
 * The same for the graph in ggml's own operators, computed on the CPU: with F32 weights the
 * distance is that of its attention, which adds up values in F16 as libllama's does. `own`: to the
 * CPU's form, 63 requests per shape.
 *   F32   float64 1.8e-3, libllama 1.7e-3, own 2.5e-3 (mean 1.0e-3)
 *   F16   float64 1.9e-3, libllama 1.2e-3, own 2.9e-3
 *   Q8_0  float64 2.2e-2, libllama 1.8e-2, own 2.0e-2
 */
export const PORTABLE_TOLERANCES: Partial<
  Record<TensorType, Tolerance & { readonly own: number }>
> = {
  F32: { float64: 4e-3, libllama: 4e-3, own: 5e-3 },
  F16: { float64: 4e-3, libllama: 4e-3, own: 6e-3 },
  Q8_0: { float64: 5e-2, libllama: 4e-2, own: 4e-2 },
}
