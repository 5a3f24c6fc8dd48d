/**
 * The house rules as a test: who may import whom, no cycles, sizes, where the environment is read,
 * names, head comments, orphans, READMEs, and words that must not be in the tree.
 */
import { existsSync, readFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'
import { listFiles, readSources, TREE_ROOT as root } from './test/source-tree.ts'

const FOLDERS = ['edge', 'gpu-host', 'db', 'native', 'scripts', 'bench', 'examples', 'test']

/** Folder → files of other folders that its product code may import. Absent = anything. */
const DIRECTIONS: Readonly<Record<string, readonly RegExp[]>> = {
  edge: [/^db\//, /^gpu-host\/(protocol\.ts$|tracing\/|wire\/)/],
  'gpu-host': [/^native\/index\.ts$/],
  db: [],
  native: [],
  scripts: [
    /^db\//,
    /^gpu-host\/protocol\.ts$/,
    /^edge\/(auth\/api-key|catalog\/model-reference)\.ts$/,
    /^native\/(build|cuda-library|paths)\.ts$/,
  ],
  examples: [/^scripts\/up\/pool-process\.ts$/],
}
/** Closer rules: files that match `from` import nothing that matches `never`. */
const NEVER: readonly { from: RegExp; except: RegExp; never: RegExp }[] = [
  { from: /^gpu-host\//, except: /native-engine\.ts$/, never: /^native\// },
  { from: /^gpu-host\/protocol\.ts$/, except: /^$/, never: /^(?!gpu-host\/wire\/chat-input)/ },
  { from: /^gpu-host\/tracing\//, except: /^$/, never: /^(?!gpu-host\/(tracing\/|protocol))/ },
  { from: /^gpu-host\/wire\//, except: /^$/, never: /^gpu-host\/(?!wire\/)/ },
  { from: /^gpu-host\/adapters\//, except: /^$/, never: /^gpu-host\/scheduler\/(?!adapter-port)/ },
  {
    from: /^edge\//,
    except: /\/node(-server|-assets|-digests|-transport)?\.ts$/,
    never: /^node:/,
  },
  { from: /^edge\//, except: /\/node-transport\.ts$/, never: /^undici/ },
]
const READS_ENVIRONMENT = [
  /^(edge\/node|gpu-host\/config|scripts\/task|scripts\/up\/pool-process|vitest\.config)\.ts$/,
  // Text that users copy.
  /^edge\/pages\/snippets\.ts$/,
  // CXX, as every C++ build takes it; which build the tests run on.
  /^native\/(build|paths)\.ts$/,
  /^scripts\/[a-z]+\.mjs$/,
  /^(bench|examples|test)\//,
  /^db\/drizzle\.config\.ts$/,
]
const LINES_MAX = 500
const COLUMNS_MAX = 100
/** Cannot be broken: a message or the title of a test. */
const LONG_STRING = /(['"`]).{40,}\1/
const VAGUE_NAMES = ['utils', 'helpers', 'common', 'types', 'misc', 'shared']
/** Barrels and entries that tools expect under this name. */
const INDEX_FILES = ['db/schema/index.ts', 'native/index.ts', 'gpu-host/index.ts']
/** In pieces, so that this file may hold them. */
const FORBIDDEN = [
  ['registry', 'npmjs'].join('.'),
  ['pypi', 'org'].join('.'),
  ['python', 'hosted.org'].join(''),
  ['', 'work', 'main'].join('/'),
  ['', 'work', 'shared'].join('/'),
  ['', 'tmp', 'nozzle', ''].join('/'),
  ['', 'root', ''].join('/'),
]

const files = listFiles('.')
const sources = readSources(files)
const product = sources.filter(({ isTest }) => !isTest)
const topOf = (path: string): string => path.split('/')[0] ?? ''

describe('imports', () => {
  it('follow the dependency directions', () => {
    const wrong = product.flatMap(({ path, imports }) => {
      const folder = topOf(path)
      const allowed = DIRECTIONS[folder]
      if (!allowed) return []
      return imports
        .filter((to) => FOLDERS.includes(topOf(to.path)) && topOf(to.path) !== folder)
        .filter((to) => !allowed.some((pattern) => pattern.test(to.path)))
        .map((to) => `${path} → ${to.path}`)
    })
    expect(wrong).toEqual([])
  })

  it.each(NEVER)('of $from never reach $never', ({ from, except, never }) => {
    const wrong = product
      .filter(({ path }) => from.test(path) && !except.test(path))
      .flatMap(({ path, imports }) =>
        imports
          .filter((to) => to.path !== 'zod' && never.test(to.path))
          .map((to) => `${path} → ${to.path}`),
      )
    expect(wrong).toEqual([])
  })

  it('form no cycle', () => {
    const known = new Map(sources.map((source) => [source.path, source]))
    const done = new Set<string>()
    const cycles: string[] = []
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
      if (done.has(path) || trail.includes(path)) return
      for (const to of known.get(path)?.imports ?? []) {
        if (!to.isTypeOnly && known.has(to.path)) visit(to.path, [...trail, path])
      }
      done.add(path)
    }
    for (const { path } of sources) visit(path, [])
    expect(cycles).toEqual([])
  })
})

describe('source files', () => {
  it('are short and narrow', () => {
    const wrong = sources.flatMap(({ path, text }) => {
      const lines = text.split('\n')
      const wide = lines.findIndex(
        (line) => [...line].length > COLUMNS_MAX && !LONG_STRING.test(line),
      )
      return [
        ...(lines.length > LINES_MAX + 1 ? [`${path}: ${lines.length} lines`] : []),
        ...(wide >= 0 ? [`${path}:${wide + 1}: wider than ${COLUMNS_MAX}`] : []),
      ]
    })
    expect(wrong).toEqual([])
  })

  it('read the environment in configuration and entries alone', () => {
    const wrong = product
      .filter(({ text }) =>
        /\bprocess\.env\b/.test(text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')),
      )
      .filter(({ path }) => !READS_ENVIRONMENT.some((pattern) => pattern.test(path)))
    expect(wrong.map(({ path }) => path)).toEqual([])
  })

  it('say at their head what they own', () => {
    const wrong = product.filter(({ text }) => !/^(#!.*\n)?\s*\/[*/]/.test(text))
    expect(wrong.map(({ path }) => path)).toEqual([])
  })

  it('have names that say something', () => {
    const wrong = sources.filter(({ path }) => {
      const stem = basename(path).split('.')[0] ?? ''
      const isKebab = /^[a-z0-9-]+$/.test(stem)
      return (
        !isKebab || VAGUE_NAMES.includes(stem) || (stem === 'index' && !INDEX_FILES.includes(path))
      )
    })
    expect(wrong.map(({ path }) => path)).toEqual([])
  })

  it('are imported, started or described somewhere', () => {
    const readable = files.filter((path) => /\.(ts|tsx|mjs|json|jsonc|md|txt)$|\/run$/.test(path))
    const texts = readable.map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))
    const orphans = sources.filter(({ path }) => {
      if (path.endsWith('.test.ts') || path === 'vitest.config.ts') return false
      const name = basename(path).replaceAll('.', '\\.')
      const mention = new RegExp(`[/'"\`]${name}\\b`)
      return !texts.some((other) => other.path !== path && mention.test(other.text))
    })
    expect(orphans.map(({ path }) => path)).toEqual([])
  })
})

describe('the tree', () => {
  const folders = FOLDERS.filter((folder) => files.some((path) => topOf(path) === folder))

  it.each(folders)('has a README in %s that ends with its decisions', (folder) => {
    const path = join(root, folder, 'README.md')
    expect(existsSync(path), `${relative(root, path)} is missing`).toBe(true)
    expect(readFileSync(path, 'utf8')).toMatch(/\n## Decisions\n(?![\s\S]*\n## )/)
  })

  it('names no registry host and no place of one machine', () => {
    const wrong = files
      .filter((path) => /\.(ts|tsx|mjs|json|jsonc|md|txt|cpp|h|py|sql)$|\/run$/.test(path))
      .flatMap((path) => {
        const text = readFileSync(join(root, path), 'utf8')
        return FORBIDDEN.filter((word) => text.includes(word)).map((word) => `${path}: ${word}`)
      })
    expect(wrong).toEqual([])
  })
})
