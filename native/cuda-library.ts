/**
 * ggml's CUDA library of the pinned llama.cpp release. It is no npm dependency, since few machines
 * want its size: it is taken out of node-llama-cpp's CUDA package of the same version, fetched
 * through npm where an NVIDIA GPU is found or CUDA is asked for, checked, and kept in `.cache/`.
 * The rest of that package equals the CPU package, which is installed. Which of two builds it is
 * depends on the CUDA runtime of the machine; neither comes with that runtime.
 * Has never run on a GPU.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fetchNpmPackage, LLAMA_RELEASE } from './fetch-headers.ts'
import { NATIVE_PATHS } from './paths.ts'
import { BuildError, requireTool, runTool } from './toolchain.ts'

interface CudaBuild {
  /** Major version of the CUDA runtime it was linked with. */
  readonly cuda: number
  readonly package: string
  readonly sha512: string
  readonly member: string
  readonly downloadMb: number
  readonly diskMb: number
}

/** Newest runtime first. */
export const CUDA_BUILDS: readonly CudaBuild[] = [
  {
    cuda: 13,
    package: '@node-llama-cpp/linux-x64-cuda@3.22.1',
    sha512:
      '8rQCjyNNLZJUFit+YpjwlC4hwkKgOMIkB2wuycKBf8NU2O3ySKbiWZQ8aw9ku2nUTXjSnUIrE6KB88itduTBuA==',
    member: 'package/bins/linux-x64-cuda/libggml-cuda.so',
    downloadMb: 143,
    diskMb: 159,
  },
  {
    cuda: 12,
    package: '@node-llama-cpp/linux-x64-cuda-ext@3.22.1',
    sha512:
      '4e5ajkiM2aR2WAdB/N/ACk4weEhHvOAIrzxZPsIX0xDFW5+6hhShuy1/vs88SK9NGdgAco9IyE28eYS0H1efpA==',
    member: 'package/bins/linux-x64-cuda/fallback/libggml-cuda.so',
    downloadMb: 177,
    diskMb: 374,
  },
]

/** The library that was fetched or built earlier; null = there is none. */
export function findCudaLibrary(cacheDir = NATIVE_PATHS.cacheDir): string | null {
  const places = CUDA_BUILDS.map((build) => libraryPath(cacheDir, build))
  return [NATIVE_PATHS.cudaBuiltPath, ...places].find((path) => existsSync(path)) ?? null
}

/** Whether the NVIDIA driver offers a device to this process. */
export function hasNvidiaGpu(): boolean {
  return existsSync('/dev/nvidiactl') && existsSync('/proc/driver/nvidia/version')
}

export interface CudaLibraryRequest {
  readonly device: 'auto' | 'cpu' | 'cuda'
  readonly cacheDir?: string
  readonly hasGpu?: boolean
  /** What the dynamic linker knows of, as `ldconfig -p` prints it. */
  readonly linkerCache?: string
  note(text: string): void
}

/**
 * Returns the library that the device asks for, fetching it when it is missing; null = none is
 * wanted: `cpu`, or `auto` without a GPU or without a CUDA runtime (which is noted). Throws a
 * BuildError where `cuda` was asked for and cannot be had.
 */
export function ensureCudaLibrary(request: CudaLibraryRequest): string | null {
  const { device, note, cacheDir = NATIVE_PATHS.cacheDir } = request
  if (device === 'cpu') return null
  const found = findCudaLibrary(cacheDir)
  if (found !== null) return found
  if (device === 'auto' && !(request.hasGpu ?? hasNvidiaGpu())) return null
  const build = chooseBuild(request.linkerCache ?? readLinkerCache())
  if (build === null) {
    const problem = 'no CUDA runtime was found: libcudart.so and libcublas.so, release 13 or 12'
    const fix = 'Install the CUDA toolkit’s runtime libraries, or choose the device cpu.'
    if (device === 'cuda') throw new BuildError(problem, fix)
    note(`native: ${problem}; the CPU computes. ${fix}`)
    return null
  }
  return fetchBuild(cacheDir, build, note)
}

/** The build whose runtime is there. */
export function chooseBuild(linkerCache: string): CudaBuild | null {
  const isThere = (build: CudaBuild) =>
    ['libcudart', 'libcublas'].every((name) => linkerCache.includes(`${name}.so.${build.cuda} `))
  return CUDA_BUILDS.find(isThere) ?? null
}

function readLinkerCache(): string {
  for (const command of ['ldconfig', '/sbin/ldconfig']) {
    const result = spawnSync(command, ['-p'], { encoding: 'utf8' })
    if (result.status === 0) return result.stdout
  }
  return ''
}

function fetchBuild(cacheDir: string, build: CudaBuild, note: (text: string) => void): string {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new BuildError(
      'ggml’s CUDA library is there for Linux x64 alone',
      'Choose the device cpu.',
    )
  }
  for (const tool of ['npm', 'tar']) requireTool(tool)
  const { package: name, downloadMb, diskMb } = build
  note(
    `native: CUDA ${build.cuda} library from ${name}, ${downloadMb} MB (${diskMb} on disk), once`,
  )
  mkdirSync(cacheDir, { recursive: true })
  const scratch = mkdtempSync(join(cacheDir, 'cuda-'))
  try {
    const archive = fetchNpmPackage(name, build.sha512, scratch)
    runTool('tar', ['-xzf', archive, '-C', scratch, build.member], scratch)
    const target = libraryPath(cacheDir, build)
    mkdirSync(join(target, '..'), { recursive: true })
    renameSync(join(scratch, build.member), target)
    return target
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function libraryPath(cacheDir: string, build: CudaBuild): string {
  return join(cacheDir, `ggml-cuda-${LLAMA_RELEASE}-cuda${build.cuda}`, 'libggml-cuda.so')
}
