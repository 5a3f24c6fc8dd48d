/**
 * libllama's own logits, from the program that native/CMakeLists.txt builds of llama-reference.cpp.
 * It runs as a process of its own, so nothing of it is shared with the engine under test.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { NATIVE_PATHS } from '../../paths.ts'

const run = promisify(execFile)

export interface ReferenceRequest {
  readonly modelPath: string
  /** A GGUF LoRA; null = the base model alone. */
  readonly adapterPath: string | null
  readonly tokens: readonly number[]
  readonly vocabularySize: number
}

/** Logits after each token, `vocabularySize` long. All tokens go through libllama as one batch. */
export async function referenceLogits(request: ReferenceRequest): Promise<Float32Array[]> {
  const { modelPath, adapterPath, tokens, vocabularySize } = request
  const rowBytes = vocabularySize * 4
  const { stdout } = await run(
    NATIVE_PATHS.referencePath,
    [
      ...[NATIVE_PATHS.libraryDir, modelPath, adapterPath ?? '-'],
      ...[String(Math.max(256, tokens.length)), ...tokens.map(String)],
    ],
    { encoding: 'buffer', maxBuffer: rowBytes * tokens.length + 1024 },
  )
  if (stdout.length !== rowBytes * tokens.length) {
    throw new Error(`llama-reference wrote ${stdout.length} bytes for ${tokens.length} tokens`)
  }
  const bytes = Uint8Array.from(stdout)
  return tokens.map((_, row) => new Float32Array(bytes.buffer, row * rowBytes, vocabularySize))
}
