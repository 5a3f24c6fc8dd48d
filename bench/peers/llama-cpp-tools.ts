/**
 * llama.cpp's own programs, of the very release whose libraries Nozzle's engine links: built once
 * into the cache, on demand, and linked to those libraries. CMakeLists.txt in llama-cpp/ says how.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { requireLibraries } from '../../native/build.ts'
import { LLAMA_RELEASE, withLlamaSources } from '../../native/fetch-headers.ts'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { requireTool, runTool } from '../../native/toolchain.ts'

export { LLAMA_RELEASE }
export type LlamaCppTool = 'llama-server' | 'llama-batched-bench'

const CMAKE_DIR = fileURLToPath(new URL('./llama-cpp/', import.meta.url))
const BUILD_DIR = join(NATIVE_PATHS.cacheDir, `llama.cpp-${LLAMA_RELEASE}-tools`)
/** On two cores. */
const BUILD_SECONDS = { 'llama-server': 90, 'llama-batched-bench': 15 } as const

export interface BuiltTool {
  readonly path: string
  /** ggml looks for its CPU libraries in the working directory. */
  readonly cwd: string
}

/** Builds the program when it is missing. Throws a BuildError that says what is needed. */
export function ensureLlamaCppTool(tool: LlamaCppTool): BuiltTool {
  const cwd = requireLibraries()
  const path = join(BUILD_DIR, 'bin', tool)
  if (!existsSync(path)) {
    for (const needed of ['cmake', 'c++']) requireTool(needed)
    process.stderr.write(
      `bench: building ${tool} of llama.cpp ${LLAMA_RELEASE}, about ${BUILD_SECONDS[tool]} s, once\n`,
    )
    mkdirSync(BUILD_DIR, { recursive: true })
    withLlamaSources(NATIVE_PATHS.cacheDir, (sources) => {
      const places = [`-DLLAMA_SOURCE=${sources}`, `-DLLAMA_LIB=${cwd}`]
      const at = ['-S', CMAKE_DIR, '-B', BUILD_DIR, '-DCMAKE_BUILD_TYPE=Release']
      runTool('cmake', [...at, ...places], CMAKE_DIR)
      const jobs = ['--parallel', String(availableParallelism())]
      runTool('cmake', ['--build', BUILD_DIR, '--target', tool, ...jobs], CMAKE_DIR)
    })
  }
  return { path, cwd }
}
