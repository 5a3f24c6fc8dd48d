/**
 * The headers of the pinned llama.cpp release. The platform packages carry libraries alone; the
 * sources lie, as a git bundle, in the main package of the same version, which is fetched through
 * npm (so a user's registry and proxy settings hold), checked, and thrown away again.
 * Invariant: a header folder under its final name is whole.
 */
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import { BuildError, requireTool, runTool } from './toolchain.ts'

export const LLAMA_RELEASE = 'v0.5.0'
const PACKAGE = 'node-llama-cpp@3.22.1'
const PACKAGE_SHA512 =
  'bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw=='
const PACKAGE_MB = 36

/** Returns the include folder, fetching it when it is missing. Throws a BuildError. */
export function ensureHeaders(cacheDir: string, note: (text: string) => void): string {
  const target = join(cacheDir, `llama.cpp-${LLAMA_RELEASE}`)
  const include = join(target, 'include')
  if (existsSync(include)) return include
  note(`native: headers of llama.cpp ${LLAMA_RELEASE} from ${PACKAGE}, ${PACKAGE_MB} MB, once`)
  withLlamaSources(cacheDir, (sources) => {
    const staged = `${sources}-staged`
    cpSync(join(sources, 'ggml', 'include'), join(staged, 'include'), { recursive: true })
    cpSync(join(sources, 'include', 'llama.h'), join(staged, 'include', 'llama.h'))
    cpSync(join(sources, 'LICENSE'), join(staged, 'LICENSE'))
    rmSync(target, { recursive: true, force: true })
    renameSync(staged, target)
  })
  return include
}

/** Fetches the release's whole source tree (36 MB), hands its path to `use`, and removes it. */
export function withLlamaSources(cacheDir: string, use: (sources: string) => void): void {
  for (const tool of ['npm', 'tar', 'git']) requireTool(tool)
  mkdirSync(cacheDir, { recursive: true })
  const scratch = mkdtempSync(join(cacheDir, 'sources-'))
  try {
    unpackSources(scratch)
    use(join(scratch, 'llama.cpp'))
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** npm package → git bundle → working tree at `<scratch>/llama.cpp`. */
export function unpackSources(scratch: string): void {
  const archive = fetchNpmPackage(PACKAGE, PACKAGE_SHA512, scratch)
  const bundle = 'package/llama/gitRelease.bundle'
  runTool('tar', ['-xzf', archive, '-C', scratch, bundle], scratch)
  const clone = ['clone', '--quiet', '--depth', '1', join(scratch, bundle), 'llama.cpp']
  runTool('git', clone, scratch)
}

/** An exact version's archive in `folder`, its digest checked. Throws a BuildError. */
export function fetchNpmPackage(name: string, sha512: string, folder: string): string {
  const packed = runTool('npm', ['pack', name, '--silent', '--pack-destination', folder], folder)
  const archive = join(folder, packed.trim().split('\n').at(-1) ?? '')
  const digest = createHash('sha512').update(readFileSync(archive)).digest('base64')
  if (digest !== sha512) throw new BuildError(`${name} has SHA-512 ${digest}, expected ${sha512}`)
  return archive
}
