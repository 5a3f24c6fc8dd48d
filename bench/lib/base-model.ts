/**
 * The base model a benchmark runs on: one of a given shape with random weights, written once to the
 * cache, or the default one that `npm start` fetches.
 */
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { NativeEngine, type NativeEngineOptions } from '../../native/index.ts'
import {
  createSyntheticAdapter,
  type SyntheticAdapter,
} from '../../native/test/support/synthetic-adapter.ts'
import {
  DEMO,
  ONE_B,
  SEVEN_B,
  type SyntheticShape,
  TINY,
  writeSyntheticGguf,
} from '../../native/test/support/synthetic-gguf.ts'
import { locateDataDir } from '../../scripts/lib/data-dir.ts'
import { ensureBaseModel } from '../../scripts/setup/base-model.ts'

/**
 * Small enough for tens of thousands of requests in minutes; its adapters still cost a real copy
 * and a real read, so a swap weighs against a step about as it does at full size.
 */
const SMALL: SyntheticShape = {
  ...TINY,
  name: 'small',
  layerCount: 6,
  embeddingLength: 256,
  headLength: 64,
  feedForwardLength: 768,
  weightType: 'Q8_0',
}

/** What a GPU is measured with, and what tries the measuring out where there is none. */
const SEVEN_B_F16: SyntheticShape = { ...SEVEN_B, name: '7b-f16', weightType: 'F16' }
export const TINY_F16: SyntheticShape = {
  ...TINY,
  name: 'tiny-f16',
  embeddingLength: 256,
  headLength: 64,
  feedForwardLength: 512,
  vocabularySize: 1024,
  weightType: 'F16',
  isTied: false,
}

export const SHAPES = ['small', 'demo', '1b', '7b', '7b-f16', 'tiny-f16', 'default'] as const
export type ShapeName = (typeof SHAPES)[number]

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const CACHE = join(ROOT, '.cache', 'bench')
const SYNTHETIC = {
  small: SMALL,
  demo: DEMO,
  '1b': ONE_B,
  '7b': SEVEN_B,
  '7b-f16': SEVEN_B_F16,
  'tiny-f16': TINY_F16,
} as const

/** What the weights of a shape are generated from; null for the model that is fetched. */
export function syntheticShapeOf(shape: ShapeName): SyntheticShape | null {
  return shape === 'default' ? null : SYNTHETIC[shape]
}

/** Path of the GGUF of a shape; what is missing is fetched or written, with notes on stderr. */
export async function ensureShape(shape: ShapeName): Promise<string> {
  const note = (text: string): void => void process.stderr.write(`${text}\n`)
  if (shape === 'default') {
    const { models } = locateDataDir(process.env, ROOT)
    return (await ensureBaseModel(process.env.NOZZLE_BASE_MODEL, models, note)).path
  }
  const path = join(CACHE, `${shape}.gguf`)
  if (existsSync(path)) return path
  note(`bench: writing a ${shape} model with random weights to ${path}`)
  mkdirSync(CACHE, { recursive: true })
  writeSyntheticGguf(`${path}.part`, SYNTHETIC[shape])
  renameSync(`${path}.part`, path)
  return path
}

export interface BenchEngineSizes {
  readonly slots: number
  readonly rank: number
  readonly sequences: number
  /** Tokens of a sequence; absent = 512. */
  readonly context?: number
  readonly threads: number
  readonly on?: BenchDevice | undefined
}

/** Absent = what the machine has. */
export type BenchDevice = Pick<Partial<NativeEngineOptions>, 'device' | 'graph'>

export function openBenchEngine(modelPath: string, sizes: BenchEngineSizes): Promise<NativeEngine> {
  return NativeEngine.open({
    modelPath,
    modelName: 'bench',
    device: 'auto',
    slotCount: sizes.slots,
    rankMax: sizes.rank,
    sequenceCount: sizes.sequences,
    contextLength: sizes.context ?? 512,
    rowsMax: 512,
    threads: sizes.threads,
    ...sizes.on,
  })
}

/** Random adapters on all seven linear layers of the engine's base. */
export function createBenchAdapters(
  engine: NativeEngine,
  count: number,
  rank: number,
): SyntheticAdapter[] {
  return Array.from({ length: count }, (_, index) => createBenchAdapter(engine, index + 1, rank))
}

export function createBenchAdapter(
  { info }: NativeEngine,
  seed: number,
  rank: number,
): SyntheticAdapter {
  const shape: SyntheticShape = {
    ...DEMO,
    layerCount: info.layerCount,
    embeddingLength: info.embeddingLength,
    headCount: info.headCount,
    headCountKv: info.headCountKv,
    headLength: info.headLength,
    feedForwardLength: info.feedForwardLength,
  }
  const base = { model: info.baseModel, digest: info.baseDigest }
  return createSyntheticAdapter(shape, { seed, rank, alpha: rank, base })
}
