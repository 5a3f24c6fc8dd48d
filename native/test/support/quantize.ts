/**
 * ggml's own quantizers for the types that tests do not draw directly, by the program that
 * native/CMakeLists.txt builds of ggml-quantize.cpp. For small tensors, since all passes through
 * memory and the caller waits.
 */
import { execFileSync } from 'node:child_process'
import { NATIVE_PATHS } from '../../paths.ts'
import type { TensorType } from './gguf-writer.ts'

const OUTPUT_BYTES_MAX = 256 * 1024 * 1024

/** `values` are whole rows of a multiple of 256. */
export function quantize(type: TensorType, values: Float32Array): Uint8Array {
  return runQuantizer('quantize', type, new Uint8Array(values.buffer))
}

export function dequantize(type: TensorType, blocks: Uint8Array): Float32Array {
  return new Float32Array(runQuantizer('dequantize', type, blocks).buffer)
}

function runQuantizer(direction: string, type: TensorType, input: Uint8Array): Uint8Array {
  const output = execFileSync(NATIVE_PATHS.quantizerPath, [direction, type], {
    input,
    maxBuffer: OUTPUT_BYTES_MAX,
  })
  // A buffer of its own, so that views of it may be made at any offset.
  return Uint8Array.from(output)
}
