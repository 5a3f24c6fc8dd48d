/**
 * Builds the addon and its C++ tests with CMake. The prebuilt ggml and libllama of the platform
 * package are linked, so only our own sources are compiled (well under a minute on two cores).
 * Invariant: a stamp beside the addon names exactly what it was built from.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { ensureHeaders, LLAMA_RELEASE } from './fetch-headers.ts'
import { NATIVE_PATHS } from './paths.ts'
import { BuildError, requireTool, runTool } from './toolchain.ts'

/**
 * Makes `native/build/nozzle.node` current. Returns at once when it is. Throws a BuildError whose
 * `fix` names the command that installs what is missing.
 */
export async function ensureNativeBuilt(note: (text: string) => void): Promise<void> {
  build(NATIVE_PATHS.buildDir, [], 'compiling the engine (about 20 s)', note)
}

/**
 * The same with AddressSanitizer and UndefinedBehaviorSanitizer in our own code, in
 * `sanitizedBuildDir`. Returns the runtime that a process must preload to load the addon.
 */
export function ensureSanitizedBuilt(note: (text: string) => void): string {
  const { root, sanitizedBuildDir } = NATIVE_PATHS
  const what = 'compiling the engine with sanitizers (about a minute)'
  build(sanitizedBuildDir, ['-DNOZZLE_SANITIZE=ON'], what, note)
  return runTool(process.env.CXX ?? 'c++', ['-print-file-name=libasan.so'], root).trim()
}

function build(
  buildDir: string,
  flags: readonly string[],
  what: string,
  note: (text: string) => void,
): void {
  const { root } = NATIVE_PATHS
  const stampPath = join(buildDir, '.stamp')
  const stamp = sourceStamp(flags)
  const isCurrent = existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp
  if (isCurrent && existsSync(join(buildDir, 'nozzle.node'))) return
  const libraryDir = requireLibraries()
  requireTool('cmake')
  requireTool(process.env.CXX ?? 'c++')
  const include = ensureHeaders(NATIVE_PATHS.cacheDir, note)
  note(`native: ${what}`)
  configure(buildDir, include, libraryDir, flags)
  runTool('cmake', ['--build', buildDir, '--parallel', String(availableParallelism())], root)
  writeFileSync(stampPath, stamp)
}

/** The folder of ggml's and libllama's prebuilt libraries for this machine. */
export function requireLibraries(): string {
  const { libraryDir, libraryPackage } = NATIVE_PATHS
  if (existsSync(libraryDir)) return libraryDir
  throw new BuildError(
    `${libraryPackage} is not installed: the engine runs on Linux, x64 and arm64`,
    'Run `npm ci` again without omitting optional dependencies.',
  )
}

function configure(
  buildDir: string,
  include: string,
  libraryDir: string,
  flags: readonly string[],
): void {
  const { root } = NATIVE_PATHS
  const modules = join(root, '..', 'node_modules')
  const nodeInclude = [
    join(modules, 'node-api-headers', 'include'),
    join(modules, 'node-addon-api'),
  ]
  // A cache of another tool or place makes CMake stop; the build is short, so begin anew.
  rmSync(buildDir, { recursive: true, force: true })
  mkdirSync(buildDir, { recursive: true })
  const hasNinja = spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0
  runTool(
    'cmake',
    [
      ...['-S', root, '-B', buildDir, '-DCMAKE_BUILD_TYPE=Release'],
      ...(hasNinja ? ['-G', 'Ninja'] : []),
      `-DNOZZLE_LLAMA_INCLUDE=${include}`,
      `-DNOZZLE_LLAMA_LIB=${libraryDir}`,
      `-DNOZZLE_NODE_INCLUDE=${nodeInclude.join(';')}`,
      ...flags,
    ],
    root,
  )
}

/** Changes with our sources, the llama.cpp release, the platform and the place of the checkout. */
function sourceStamp(flags: readonly string[]): string {
  const { root } = NATIVE_PATHS
  const hash = createHash('sha256').update(`${LLAMA_RELEASE}\n${process.platform}\n${root}\n`)
  hash.update(flags.join(' '))
  const sources = ['CMakeLists.txt']
  for (const folder of ['addon', 'engine', 'test']) {
    for (const name of readdirSync(join(root, folder), {
      encoding: 'utf8',
      recursive: true,
    }).sort()) {
      if (/\.(cpp|h)$/.test(name)) sources.push(join(folder, name))
    }
  }
  for (const name of sources) hash.update(name).update(readFileSync(join(root, name)))
  return hash.digest('hex')
}
