import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { CUDA_BUILDS, chooseBuild, ensureCudaLibrary, findCudaLibrary } from './cuda-library.ts'

const linkerCache = (...majors: number[]) =>
  majors
    .flatMap((major) => ['libcudart', 'libcublas'].map((name) => `${name}.so.${major}`))
    .map((name) => `\t${name} (libc6,x86-64) => /usr/lib/${name}\n`)
    .join('')

const folders: string[] = []
function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'nozzle-cuda-'))
  folders.push(folder)
  return folder
}
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

describe('the CUDA library', () => {
  it('is the build for the newest runtime that is whole', () => {
    expect(chooseBuild(linkerCache(12, 13))?.cuda).toBe(13)
    expect(chooseBuild(linkerCache(12))?.cuda).toBe(12)
    expect(chooseBuild(linkerCache(11))).toBeNull()
    expect(chooseBuild('\tlibcudart.so.13 (libc6,x86-64) => /x\n')).toBeNull()
    expect(chooseBuild('')).toBeNull()
  })

  it('is pinned to one version, each build with its digest', () => {
    for (const build of CUDA_BUILDS) {
      expect(build.package).toMatch(/@\d+\.\d+\.\d+$/)
      expect(Buffer.from(build.sha512, 'base64').length).toBe(64)
    }
  })

  it('is not wanted by the device cpu, nor by auto without a GPU', () => {
    const note = (text: string) => expect.fail(text)
    const common = { cacheDir: scratch(), linkerCache: linkerCache(13), note }
    expect(ensureCudaLibrary({ ...common, device: 'cpu', hasGpu: true })).toBeNull()
    expect(ensureCudaLibrary({ ...common, device: 'auto', hasGpu: false })).toBeNull()
  })

  it('is refused with what is missing where there is no CUDA runtime', () => {
    const notes: string[] = []
    const common = {
      cacheDir: scratch(),
      linkerCache: '',
      note: (text: string) => notes.push(text),
    }
    expect(() => ensureCudaLibrary({ ...common, device: 'cuda' })).toThrow(/libcudart/)
    expect(ensureCudaLibrary({ ...common, device: 'auto', hasGpu: true })).toBeNull()
    expect(notes.join('\n')).toMatch(/the CPU computes/)
  })

  it('is found again once it is there, without asking anyone', () => {
    const cacheDir = scratch()
    const path = join(cacheDir, 'ggml-cuda-v0.5.0-cuda12', 'libggml-cuda.so')
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, '')
    const note = (text: string) => expect.fail(text)
    expect(findCudaLibrary(cacheDir)).toBe(path)
    expect(ensureCudaLibrary({ device: 'cuda', cacheDir, linkerCache: '', note })).toBe(path)
  })
})
