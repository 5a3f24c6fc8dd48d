/** An engine on the tiny model, small enough to open per test file, and closed with it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { NativeEngine, type NativeEngineOptions } from '../../index.ts'
import { GREEDY } from './requests.ts'
import { TINY, writeSyntheticGguf } from './synthetic-gguf.ts'

export { joinRows, rowsOf } from './rows.ts'

/** A folder that goes away after the test file. */
export function createScratchDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'nozzle-native-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export function tinyOptions(modelPath: string): NativeEngineOptions {
  return {
    modelPath,
    modelName: 'tiny',
    device: 'cpu',
    slotCount: 3,
    rankMax: 8,
    sequenceCount: 4,
    contextLength: 64,
    rowsMax: 48,
    threads: 1,
  }
}

export async function openTinyEngine(
  dir: string,
  changes: Partial<NativeEngineOptions> = {},
): Promise<NativeEngine> {
  const modelPath = join(dir, 'tiny.gguf')
  writeSyntheticGguf(modelPath, TINY)
  return NativeEngine.open({ ...tinyOptions(modelPath), ...changes })
}

export function openGreedy(engine: NativeEngine, sequence: number, topLogprobs = -1): void {
  engine.openSequence(sequence, {
    sampling: GREEDY,
    topLogprobs,
    promptTokens: new Int32Array(0),
  })
}
