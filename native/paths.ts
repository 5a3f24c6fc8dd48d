/** Where the native part's files lie, seen from this folder. */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(fileURLToPath(import.meta.url))
const buildDir = join(root, 'build')

/** Platform package of node-llama-cpp that carries ggml and libllama for this machine. */
function platformPackage(): string {
  const platform = process.platform === 'darwin' ? 'mac' : process.platform
  const metal = platform === 'mac' && process.arch === 'arm64' ? '-metal' : ''
  return `${platform}-${process.arch}${metal}`
}

const name = platformPackage()

export const NATIVE_PATHS = Object.freeze({
  root,
  buildDir,
  cacheDir: join(root, '..', '.cache'),
  addonPath: join(buildDir, 'nozzle.node'),
  stampPath: join(buildDir, '.stamp'),
  referencePath: join(buildDir, 'llama-reference'),
  kernelsTestPath: join(buildDir, 'kernels-test'),
  libraryPackage: `@node-llama-cpp/${name}`,
  libraryDir: join(root, '..', 'node_modules', '@node-llama-cpp', name, 'bins', name),
})
