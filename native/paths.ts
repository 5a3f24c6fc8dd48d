/** Where the native part's files lie, seen from this folder. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(fileURLToPath(import.meta.url))
/** Set by `npm run soak` alone, to run the tests on the sanitizer-built engine. */
const buildDir = process.env.NOZZLE_NATIVE_BUILD_DIR ?? join(root, 'build')

/** Platform package of node-llama-cpp that carries ggml and libllama for this machine. */
const platform = `${process.platform}-${process.arch}`

export const NATIVE_PATHS = Object.freeze({
  root,
  buildDir,
  cacheDir: join(root, '..', '.cache'),
  addonPath: join(buildDir, 'nozzle.node'),
  referencePath: join(buildDir, 'llama-reference'),
  cpuTestPath: join(buildDir, 'cpu-test'),
  kernelsTestPath: join(buildDir, 'kernels-test'),
  /** Where a box with the CUDA toolkit puts a library of its own (gpu-acceptance). */
  cudaBuiltPath: join(root, '..', '.cache', 'ggml-cuda-built', 'libggml-cuda.so'),
  grammarTestPath: join(buildDir, 'grammar-test'),
  fuzzSlotsPath: join(buildDir, 'fuzz-slots'),
  fuzzGrammarPath: join(buildDir, 'fuzz-grammar'),
  sanitizedBuildDir: join(root, '..', '.cache', 'native-sanitized'),
  quantizerPath: join(buildDir, 'ggml-quantize'),
  libraryPackage: `@node-llama-cpp/${platform}`,
  libraryDir: join(root, '..', 'node_modules', '@node-llama-cpp', platform, 'bins', platform),
})
