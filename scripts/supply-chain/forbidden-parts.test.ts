/**
 * What must not be there, or not be reachable, whoever sends what: ggml's RPC backend, pickles,
 * archives, and GGUF's parser from anything that a tenant sends.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { listFiles, reachableFrom, readSources, TREE_ROOT as root } from '../test/source-tree.ts'
import { readLockedPackages } from './locked-packages.ts'

const files = listFiles('.')
const sources = readSources(files).filter(({ isTest }) => !isTest)
const product = readLockedPackages(root).filter(({ isDevelopment }) => !isDevelopment)

/** Where bytes of tenants come in: the edge, the host's server, and what reads uploads. */
const TENANT_ENTRIES = [
  'edge/app.ts',
  'gpu-host/server.ts',
  'gpu-host/generate-route.ts',
  'gpu-host/adapter-upload.ts',
  'gpu-host/direct-uploads.ts',
  'gpu-host/adapters/adapter-intake.ts',
  'gpu-host/adapters/adapter-cache.ts',
  // A worker thread, which no import names.
  'gpu-host/adapters/pack-reader-worker.ts',
]
const fromTenants = reachableFrom(TENANT_ENTRIES, sources)
const isOfTree = (path: string): boolean => sources.some((source) => source.path === path)

describe('what tenants send', () => {
  it('is looked at by files that this test knows', () => {
    for (const path of TENANT_ENTRIES) expect(isOfTree(path), path).toBe(true)
    expect([...fromTenants].filter(isOfTree).length).toBeGreaterThan(150)
    expect(fromTenants).toContain('gpu-host/adapters/safetensors-reader.ts')
    expect(fromTenants).toContain('db/queries/usage.ts')
  })

  it('reaches neither the engine’s own files nor what opens a base model', () => {
    const reached = [...fromTenants].filter((path) => /^(native\/|#native)/.test(path))
    expect(reached).toEqual([])
    expect(fromTenants).not.toContain('gpu-host/native-engine.ts')
    // The process's entry does, with a path from its own environment.
    const fromEntry = reachableFrom(['gpu-host/index.ts'], sources)
    expect(fromEntry).toContain('native/index.ts')
  })

  it('meets the engine as numbers and packs: GGUF is read where a base model is opened alone', () => {
    const readers = files
      .filter((path) => /^native\/(engine|addon)\/.*\.(cpp|h)$/.test(path))
      .filter((path) => /\b(gguf_|llama_model_load)/.test(readFileSync(join(root, path), 'utf8')))
    expect(readers.sort()).toEqual([
      'native/engine/model-dims.cpp',
      'native/engine/model-dims.h',
      'native/engine/model.cpp',
      'native/engine/model.h',
      'native/engine/tokenizer.cpp',
    ])
    const opens = files
      .filter((path) => /^native\/(engine|addon)\/.*\.cpp$/.test(path))
      .flatMap((path) => readFileSync(join(root, path), 'utf8').split('\n'))
      .filter((line) => /\b(gguf_init_from_file|llama_model_load_from_file)\(/.test(line))
    expect(opens).toHaveLength(2)
  })

  it('never is a LoRA in GGUF, whose reader libllama has', () => {
    const users = files
      .filter((path) => /^native\/(engine|addon)\//.test(path))
      .filter((path) => readFileSync(join(root, path), 'utf8').includes('llama_adapter'))
    expect(users).toEqual([])
  })

  it('starts no process, runs no text as code, and is unpacked by nothing', () => {
    const forbidden = /^node:(child_process|vm|cluster|inspector|repl|dgram)$/
    expect([...fromTenants].filter((path) => forbidden.test(path))).toEqual([])
    const evaluates = sources
      .filter(({ path }) => fromTenants.has(path))
      .filter(({ text }) => /\beval\(|new Function\(/.test(text))
    expect(evaluates.map(({ path }) => path)).toEqual([])
    // Of zlib, checksums alone.
    const inflates = sources
      .filter(
        ({ path, imports }) =>
          fromTenants.has(path) && imports.some((to) => to.path === 'node:zlib'),
      )
      .filter(({ text }) => !/import \{ crc32 \} from 'node:zlib'/.test(text))
    expect(inflates.map(({ path }) => path)).toEqual([])
  })
})

describe('the product', () => {
  /** Beside them lies libllama-common, of llama.cpp's own programs, which nothing of ours links. */
  const LINKED = /^lib(ggml|ggml-base|ggml-cpu-\w+|llama)\.(v[\d.]+\.)?(so|dylib)$/
  const ARCHIVES = new RegExp(
    `(^|[-/@.])(${[
      ...['tar', 'zip', 'adm-zip', 'jszip', 'yauzl', 'unzipper', 'fflate', 'pako', 'archiver'],
      ...['decompress', 'extract-zip', '7zip', 'unrar', 'gunzip', 'lzma'],
    ].join('|')})([-/.]|$)`,
  )
  const PICKLES = /pickle|serialize-javascript|node-serialize|funcster|cryo/

  it('has no library for archives, and none that makes code of data', () => {
    const wrong = product.filter(({ name }) => ARCHIVES.test(name) || PICKLES.test(name))
    expect(wrong.map(({ name }) => name)).toEqual([])
    for (const name of ['tar', 'tar-stream', 'jszip', 'adm-zip', '@zip.js/zip.js', 'node-7zip']) {
      expect(ARCHIVES.test(name), name).toBe(true)
    }
    for (const name of ['prom-client', 'postgres-date', 'target', 'undici']) {
      expect(ARCHIVES.test(name), name).toBe(false)
    }
  })

  it('has no RPC backend of ggml, neither beside its libraries nor in them', () => {
    const libraries = readdirSync(NATIVE_PATHS.libraryDir)
    expect(libraries.some((name) => name.startsWith('libllama.'))).toBe(true)
    expect(libraries.filter((name) => /rpc/i.test(name))).toEqual([])
    expect(libraries.filter((name) => LINKED.test(name)).length).toBeGreaterThan(3)
    for (const name of libraries.filter((one) => LINKED.test(one))) {
      const bytes = readFileSync(join(NATIVE_PATHS.libraryDir, name))
      expect(bytes.includes('ggml_backend_rpc'), name).toBe(false)
    }
    const builds = files.filter((path) => /^native\/(CMakeLists\.txt|[^/]+\.ts)$/.test(path))
    const asked = builds.filter((path) =>
      /GGML_RPC|ggml-rpc|llama-common/.test(readFileSync(join(root, path), 'utf8')),
    )
    expect(asked).toEqual([])
  })

  it('loads libraries from its own folders alone', () => {
    const loads = files
      .filter((path) => /^native\/(engine|addon)\/.*\.cpp$/.test(path))
      .flatMap((path) => {
        const text = readFileSync(join(root, path), 'utf8')
        return [...text.matchAll(/\b(dlopen|ggml_backend_load\w*)\(([^)]*)/g)].map(
          ([, call, what]) => [path, call, what],
        )
      })
    expect(loads).toEqual([
      ['native/engine/device.cpp', 'ggml_backend_load_all_from_path', 'library_dir.c_str('],
      ['native/engine/device.cpp', 'ggml_backend_load', 'cuda_library.c_str('],
      ['native/engine/device.cpp', 'dlopen', 'where.dli_fname, RTLD_NOW | RTLD_NOLOAD'],
    ])
  })
})
