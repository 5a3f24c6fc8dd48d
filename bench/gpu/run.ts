/** One acceptance run: what it runs on, and the folder that its stages leave their results in. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BenchDevice } from '../lib/base-model.ts'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export interface GpuRun {
  readonly device: 'cuda' | 'cpu'
  readonly shape: '7b-f16' | 'tiny-f16'
  readonly out: string
  readonly rounds: number
}

/** The CPU computes the graph that CUDA would. */
export function deviceOf(run: GpuRun): BenchDevice {
  return run.device === 'cuda' ? { device: 'cuda' } : { device: 'cpu', graph: 'portable' }
}

/**
 * 0 = one per core: beside a GPU the host's threads draw tokens. On a CPU that others use too, ggml's
 * threads would wait for each other.
 */
export function threadsOf(run: GpuRun): number {
  return run.device === 'cuda' ? 0 : 1
}

export function saveResult(run: GpuRun, stage: string, result: object): void {
  mkdirSync(run.out, { recursive: true })
  writeFileSync(resultPath(run, stage), `${JSON.stringify(result, null, 2)}\n`)
}

/** null when the stage has left none. */
export function loadResult(run: GpuRun, stage: string): Record<string, unknown> | null {
  const path = resultPath(run, stage)
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null
}

function resultPath(run: GpuRun, stage: string): string {
  return join(run.out, `${stage}.json`)
}

export function note(text: string): void {
  process.stderr.write(`gpu-acceptance: ${text}\n`)
}
