/**
 * On the box: ggml's CUDA library for its one GPU architecture, then the engine. Compiling goes on
 * where an earlier call stopped, so a box whose commands are cut off gets there in pieces.
 */
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { ensureNativeBuilt } from '../../native/build.ts'
import { NATIVE_PATHS } from '../../native/paths.ts'
import { requireTool, runTool } from '../../native/toolchain.ts'
import { note, ROOT } from './run.ts'

export const CUDA_SOURCE = join(ROOT, 'llama-cuda')
const BUILD = join(ROOT, '.cache', 'ggml-cuda-build')
const LIBRARY = 'libggml-cuda.so'
const PIECE_BYTES = 15 * 1024 * 1024

export interface BuildOptions {
  readonly device: 'cuda' | 'cpu'
  readonly architecture: string
  /** Compiling stops then, with what is done kept. */
  readonly secondsMax: number
}

/** Returns false when time ran out: call it again. */
export async function build(options: BuildOptions): Promise<boolean> {
  await ensureNativeBuilt(note)
  if (options.device === 'cpu') return true
  if (existsSync(NATIVE_PATHS.cudaBuiltPath)) return true
  for (const tool of ['cmake', 'ninja', 'nvcc']) requireTool(tool)
  if (!existsSync(join(BUILD, 'build.ninja'))) {
    mkdirSync(BUILD, { recursive: true })
    runTool(
      'cmake',
      [
        ...['-S', join(ROOT, 'bench', 'gpu'), '-B', BUILD, '-G', 'Ninja'],
        `-DCMAKE_CUDA_ARCHITECTURES=${options.architecture}`,
        `-DLLAMA_SOURCE=${CUDA_SOURCE}`,
        `-DLLAMA_LIB=${NATIVE_PATHS.libraryDir}`,
      ],
      ROOT,
    )
  }
  note(`compiling ggml's CUDA library for sm_${options.architecture}`)
  const { status } = spawnSync('ninja', ['-C', BUILD, '-j', String(availableParallelism())], {
    stdio: ['ignore', 2, 2],
    timeout: options.secondsMax * 1000,
  })
  if (status !== 0 && status !== null) throw new Error(`ninja ended with status ${status}`)
  if (status === null) return false
  mkdirSync(dirname(NATIVE_PATHS.cudaBuiltPath), { recursive: true })
  copyFileSync(join(BUILD, LIBRARY), NATIVE_PATHS.cudaBuiltPath)
  return true
}

/** The library, stripped and compressed, as files small enough to carry, `<out>/pieces/cuda.NN`. */
export function writePieces(out: string): void {
  const folder = join(out, 'pieces')
  mkdirSync(folder, { recursive: true })
  const stripped = join(folder, LIBRARY)
  runTool('strip', ['-o', stripped, NATIVE_PATHS.cudaBuiltPath], ROOT)
  runTool('xz', ['-T0', '-6', '-f', stripped], ROOT)
  const packed = readFileSync(`${stripped}.xz`)
  for (let begin = 0, index = 0; begin < packed.length; begin += PIECE_BYTES, index++) {
    const name = `cuda.${String(index).padStart(2, '0')}`
    writeFileSync(join(folder, name), packed.subarray(begin, begin + PIECE_BYTES))
  }
  runTool('rm', [`${stripped}.xz`], ROOT)
  note(`pieces: ${packed.length} bytes in ${folder}; pack them with \`pack --pieces ${folder}\``)
}

/** The other way round, into the place where the engine looks. */
export function joinPieces(folder: string, target: string): void {
  const names = readdirSync(folder)
    .filter((name) => /^cuda\.\d+$/.test(name))
    .sort()
  if (names.length === 0) throw new Error(`${folder} holds no pieces of a CUDA library`)
  mkdirSync(dirname(target), { recursive: true })
  writeFileSync(
    `${target}.xz`,
    Buffer.concat(names.map((name) => readFileSync(join(folder, name)))),
  )
  runTool('xz', ['-d', '-f', `${target}.xz`], dirname(target))
}
