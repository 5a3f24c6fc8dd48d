/** The sources of the tree with what each imports, for tests that hold the tree to rules. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

export const TREE_ROOT: string = dirname(dirname(import.meta.dirname))

const NOT_OURS = ['node_modules', 'build', '.git', '.cache', '.nozzle', '.wrangler', 'migrations']

export interface Source {
  readonly path: string
  readonly text: string
  readonly isTest: boolean
  /** Paths within the tree, or package names; types alone are marked. */
  readonly imports: readonly { readonly path: string; readonly isTypeOnly: boolean }[]
}

/** Paths of all files below, seen from the root. */
export function listFiles(folder: string): string[] {
  return readdirSync(join(TREE_ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (NOT_OURS.includes(entry.name)) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? listFiles(path) : [path]
  })
}

const importMap: Record<string, string> = JSON.parse(
  readFileSync(join(TREE_ROOT, 'package.json'), 'utf8'),
).imports

function resolveImport(from: string, name: string): string {
  if (name.startsWith('.')) return normalize(join(dirname(from), name))
  for (const [pattern, target] of Object.entries(importMap)) {
    const [start = '', end] = pattern.split('*')
    if (name === pattern) return normalize(target)
    if (end !== undefined && name.startsWith(start)) {
      return normalize(target.replace('*', name.slice(start.length)))
    }
  }
  return name
}

function readSource(path: string): Source {
  const text = readFileSync(join(TREE_ROOT, path), 'utf8')
  const pattern = /^(?:import|export)\s+(type\s)?(?:[^'"]*?\sfrom\s+)?'([^']+)'/gm
  const dynamic = /\bimport\('([^']+)'\)/g
  const imports = [
    ...[...text.matchAll(pattern)].map(([, type, name]) => [name, type !== undefined] as const),
    ...[...text.matchAll(dynamic)].map(([, name]) => [name, false] as const),
  ].map(([name = '', isTypeOnly]) => ({ path: resolveImport(path, name), isTypeOnly }))
  const isTest = /\.test\.ts$|(^|\/)test\//.test(path)
  return { path, text, isTest, imports }
}

/** Those of the files that are sources. */
export function readSources(files: readonly string[]): Source[] {
  return files.filter((path) => /\.(ts|tsx|mjs)$/.test(path)).map(readSource)
}

/** Everything that runs when these run: files of the tree, and packages. Types alone do not run. */
export function reachableFrom(
  entries: readonly string[],
  sources: readonly Source[],
): ReadonlySet<string> {
  const byPath = new Map(sources.map((source) => [source.path, source]))
  const reached = new Set<string>()
  const waiting = [...entries]
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (reached.has(path)) continue
    reached.add(path)
    for (const to of byPath.get(path)?.imports ?? []) if (!to.isTypeOnly) waiting.push(to.path)
  }
  return reached
}
