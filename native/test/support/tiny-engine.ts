/** An engine on the tiny model, small enough to open per test file, and closed with it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { NativeEngine, type NativeEngineOptions } from '../../index.ts'
import { GREEDY } from './requests.ts'
import { TINY, writeSyntheticGguf } from './synthetic-gguf.ts'

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

/** Rows of one sequence from `position` on; the last one samples. */
export function rowsOf(
  sequence: number,
  tokens: readonly number[],
  { position = 0, slot = 0 }: { position?: number; slot?: number } = {},
) {
  const length = tokens.length
  return {
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(tokens, (_, index) => position + index),
    sequences: new Int32Array(length).fill(sequence),
    slots: new Int32Array(length).fill(slot),
    outputs: Uint8Array.from(tokens, (_, index) => (index === length - 1 ? 1 : 0)),
  }
}

/** One step's rows after another's. */
export function joinRows(a: ReturnType<typeof rowsOf>, b: ReturnType<typeof rowsOf>) {
  return {
    tokens: Int32Array.of(...a.tokens, ...b.tokens),
    positions: Int32Array.of(...a.positions, ...b.positions),
    sequences: Int32Array.of(...a.sequences, ...b.sequences),
    slots: Int32Array.of(...a.slots, ...b.slots),
    outputs: Uint8Array.of(...a.outputs, ...b.outputs),
  }
}

export function openGreedy(engine: NativeEngine, sequence: number, topLogprobs = -1): void {
  engine.openSequence(sequence, {
    sampling: GREEDY,
    topLogprobs,
    promptTokens: new Int32Array(0),
  })
}
