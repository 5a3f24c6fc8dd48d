/** A synthetic base model on disk, an engine on it, and adapters, each in a slot and as a file. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NativeEngine, type NativeEngineOptions } from '../../index.ts'
import {
  type AdapterRecipe,
  createSyntheticAdapter,
  type SyntheticAdapter,
  writeAdapterGguf,
} from './synthetic-adapter.ts'
import { type SyntheticShape, writeSyntheticGguf } from './synthetic-gguf.ts'

/** Ranks below, at and above a vector's width; some adapters leave modules alone. Slots 1, 2, … */
export const MIXED_RECIPES: readonly AdapterRecipe[] = [
  { seed: 1, rank: 8, alpha: 16 },
  { seed: 2, rank: 16, alpha: 32 },
  { seed: 3, rank: 1, alpha: 1, targets: ['attn_q', 'attn_v'] },
  { seed: 4, rank: 5, alpha: 12, targets: ['ffn_gate', 'ffn_up', 'ffn_down'] },
  { seed: 5, rank: 4, alpha: 6, ranks: { attn_k: 7, ffn_down: 16 } },
  { seed: 6, rank: 16, alpha: 8, targets: ['attn_output', 'ffn_down'] },
]

/** Of the engine; some models compute it otherwise than a longer one. */
export const CONTEXT_LENGTH = 128

/** Holds nothing until a test loads it. */
export const SPARE_SLOT = MIXED_RECIPES.length + 1

export interface TestAdapter {
  readonly slot: number
  readonly path: string
  readonly adapter: SyntheticAdapter
}

export interface TestBase {
  readonly shape: SyntheticShape
  readonly modelPath: string
  readonly engine: NativeEngine
  readonly adapters: readonly TestAdapter[]
  close(): Promise<void>
}

/** One thread by default: where tests share cores, more of them wait for each other. */
export async function openTestBase(
  shape: SyntheticShape,
  threads = 1,
  changes: Pick<Partial<NativeEngineOptions>, 'device' | 'graph'> = {},
): Promise<TestBase> {
  const folder = mkdtempSync(join(tmpdir(), 'nozzle-base-'))
  const modelPath = join(folder, 'base.gguf')
  writeSyntheticGguf(modelPath, shape)
  const engine = await NativeEngine.open({
    modelPath,
    modelName: shape.name,
    device: 'cpu',
    slotCount: SPARE_SLOT,
    rankMax: 16,
    sequenceCount: 16,
    contextLength: CONTEXT_LENGTH,
    rowsMax: 512,
    threads,
    ...changes,
  })
  const adapters: TestAdapter[] = []
  for (const recipe of MIXED_RECIPES) {
    const adapter = createSyntheticAdapter(shape, recipe)
    const slot = adapters.length + 1
    const path = join(folder, `adapter-${slot}.gguf`)
    writeAdapterGguf(path, adapter, 'F32', shape.architecture)
    await engine.loadSlot(slot, adapter)
    adapters.push({ slot, path, adapter })
  }
  const close = async () => {
    await engine.close()
    rmSync(folder, { recursive: true, force: true })
  }
  return { shape, modelPath, engine, adapters, close }
}
