/**
 * Everything that a box with nvcc, CMake and ninja, but without Node and network, needs to run the
 * acceptance, in one archive: Node, the checkout's sources, the packages and prebuilt CPU libraries
 * they use, and the sources of ggml's CUDA backend from the pinned release.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { ensureHeaders, unpackSources } from '../../native/fetch-headers.ts'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { requireTool, runTool } from '../../native/toolchain.ts'
import { joinPieces } from './build.ts'
import { note, ROOT } from './run.ts'

const FOLDERS = ['native', 'bench', 'gpu-host', 'scripts', 'edge', 'db', 'package.json']
/** What the addon is built with; no source imports it. */
const BUILD_PACKAGES = ['node-api-headers', 'node-addon-api']
const ENTRY = join('bench', 'gpu', 'cli.ts')
/** Of a module, whatever follows `from`; types leave no import behind. */
const IMPORTS = /^(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm
/** Of the platform package, what no engine loads. */
const LEFT_OUT = /^(llama-addon\.node|libllama-common\.so)$/
const CUDA_SOURCES = ['include', join('src', 'ggml-cuda')]
const BYTES_MAX = 64 * 1024 * 1024

export function pack(archive: string, piecesDir: string | null): void {
  for (const tool of ['tar', 'xz', 'strip', 'git', 'npm']) requireTool(tool)
  const scratch = mkdtempSync(join(dirname(resolve(archive)), '.gpu-pack-'))
  const folder = join(scratch, 'nozzle-gpu')
  try {
    copySources(folder)
    copyPackages(folder)
    copyCudaSources(scratch, folder)
    mkdirSync(join(folder, 'runtime'))
    runTool('strip', ['-o', join(folder, 'runtime', 'node'), process.execPath], ROOT)
    if (piecesDir !== null) {
      joinPieces(resolve(piecesDir), join(folder, relative(ROOT, NATIVE_PATHS.cudaBuiltPath)))
    }
    note('compressing (a minute or two)')
    const args = ['--use-compress-program=xz -T0 -6', '-cf', resolve(archive)]
    runTool('tar', [...args, '-C', scratch, 'nozzle-gpu'], ROOT)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  const { size } = statSync(archive)
  note(`${archive}: ${(size / 2 ** 20).toFixed(1)} MiB`)
  if (size > BYTES_MAX) throw new Error(`the archive is larger than ${BYTES_MAX / 2 ** 20} MiB`)
}

function copySources(folder: string): void {
  const listed = runTool('git', ['ls-files', '-co', '--exclude-standard', ...FOLDERS], ROOT)
  for (const path of listed.split('\n').filter(Boolean)) {
    cpSync(join(ROOT, path), join(folder, path), { recursive: true })
  }
  const headers = dirname(ensureHeaders(NATIVE_PATHS.cacheDir, note))
  cpSync(headers, join(folder, relative(ROOT, headers)), { recursive: true })
}

function copyPackages(folder: string): void {
  for (const name of withDependencies([...BUILD_PACKAGES, ...importedPackages()])) {
    const path = join('node_modules', name)
    cpSync(join(ROOT, path), join(folder, path), { recursive: true })
  }
  const { libraryDir } = NATIVE_PATHS
  cpSync(libraryDir, join(folder, relative(ROOT, libraryDir)), {
    recursive: true,
    filter: (path) => !LEFT_OUT.test(relative(libraryDir, path)),
  })
}

/** Packages that the command imports, through whichever of our modules. */
export function importedPackages(): string[] {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const modules = new Set([ENTRY])
  const packages = new Set<string>()
  // A set also visits what is added on the way.
  for (const path of modules) {
    for (const [, name = ''] of readFileSync(join(ROOT, path), 'utf8').matchAll(IMPORTS)) {
      const own = name.startsWith('#') ? manifest.imports[name] : name
      if (/^\.\.?\//.test(own)) {
        const from = name.startsWith('#') ? '' : dirname(path)
        if (own.endsWith('.ts')) modules.add(join(from, own))
      } else if (!own.startsWith('node:')) {
        packages.add(
          own
            .split('/')
            .slice(0, own.startsWith('@') ? 2 : 1)
            .join('/'),
        )
      }
    }
  }
  return [...packages]
}

function withDependencies(names: readonly string[]): Set<string> {
  const all = new Set(names)
  for (const name of all) {
    const manifest = readFileSync(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')
    for (const other of Object.keys(JSON.parse(manifest).dependencies ?? {})) all.add(other)
  }
  return all
}

function copyCudaSources(scratch: string, folder: string): void {
  note('the sources of ggml’s CUDA backend, 36 MB from npm')
  unpackSources(scratch)
  const ggml = join(scratch, 'llama.cpp', 'ggml')
  const target = join(folder, 'llama-cuda', 'ggml')
  for (const path of CUDA_SOURCES) cpSync(join(ggml, path), join(target, path), { recursive: true })
  for (const name of readdirSync(join(ggml, 'src')).filter((name) => name.endsWith('.h'))) {
    cpSync(join(ggml, 'src', name), join(target, 'src', name))
  }
  cpSync(join(scratch, 'llama.cpp', 'LICENSE'), join(folder, 'llama-cuda', 'LICENSE'))
  rmSync(join(scratch, 'llama.cpp'), { recursive: true, force: true })
  rmSync(join(scratch, 'package'), { recursive: true, force: true })
}
