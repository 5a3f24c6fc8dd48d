/**
 * Decoding of the base alone at batch 1 and 8, against the time in which the device could read the
 * weights once: the floor of a step that computes nothing for free. The bandwidth is measured too.
 */
import { spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import type { NativeEngine } from '../../native/index.ts'
import { GREEDY } from '../../native/test/support/requests.ts'
import { ensureShape, openBenchEngine } from '../lib/base-model.ts'
import { densePages } from '../lib/generate.ts'
import { median, percentile, significant } from '../lib/statistics.ts'
import { deviceOf, type GpuRun, threadsOf } from './run.ts'

const BATCHES = [1, 8] as const
const WARM_STEPS = 20
const STEPS = 200
const BYTES_HALF = 2
const COPY_BYTES = 256 * 1024 * 1024

/** Bytes read and written per second by a plain copy, from PyTorch. */
const TORCH_COPY = `
import torch
n = 1 << 30
x = torch.empty(n, dtype=torch.uint8, device="cuda"); y = torch.empty_like(x)
for _ in range(3): y.copy_(x)
a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
a.record()
for _ in range(20): y.copy_(x)
b.record(); torch.cuda.synchronize()
print(2 * n * 20 / (a.elapsed_time(b) / 1000))
print(torch.cuda.get_device_name(0))
`

export async function runDecode(run: GpuRun) {
  const bandwidth = measureBandwidth(run)
  const modelPath = await ensureShape(run.shape)
  const sizes = { slots: 1, rank: 16, sequences: 8, threads: threadsOf(run), on: deviceOf(run) }
  const engine = await openBenchEngine(modelPath, sizes)
  try {
    const { embeddingLength, vocabularySize, device, memory } = engine.info
    // Of the embeddings a step reads a row per token.
    const bytes = statSync(modelPath).size - embeddingLength * vocabularySize * BYTES_HALF
    const floorMs = (bytes / bandwidth.bytesPerSecond) * 1000
    const batches = []
    for (const batch of BATCHES) {
      const times = await decode(engine, batch)
      const stepMs = median(times)
      batches.push({
        batch,
        step_ms: { p50: significant(stepMs), p99: significant(percentile(times, 0.99)) },
        tok_s: significant((batch / stepMs) * 1000),
        share_of_floor: significant(floorMs / stepMs),
      })
    }
    return {
      device,
      memory,
      bandwidth_bytes_s: significant(bandwidth.bytesPerSecond),
      bandwidth_from: bandwidth.source,
      step_bytes: bytes,
      floor_ms: significant(floorMs),
      batches,
    }
  } finally {
    await engine.close()
  }
}

function measureBandwidth(run: GpuRun): { bytesPerSecond: number; source: string } {
  if (run.device === 'cuda') {
    const { status, stdout, stderr } = spawnSync('python3', ['-c', TORCH_COPY], {
      encoding: 'utf8',
    })
    const [bytesPerSecond, name] = stdout.trim().split('\n')
    if (status === 0) return { bytesPerSecond: Number(bytesPerSecond), source: `PyTorch, ${name}` }
    throw new Error(`PyTorch could not measure the memory's bandwidth:\n${stderr}`)
  }
  const from = Buffer.alloc(COPY_BYTES, 1)
  const to = Buffer.alloc(COPY_BYTES, 2)
  const times = Array.from({ length: 5 }, () => {
    const startedAt = performance.now()
    from.copy(to)
    return performance.now() - startedAt
  })
  return { bytesPerSecond: (2 * COPY_BYTES * 1000) / median(times), source: 'memcpy, one thread' }
}

/** Milliseconds of each step in which `count` sequences decode. */
async function decode(engine: NativeEngine, count: number): Promise<number[]> {
  for (let sequence = 0; sequence < count; sequence++) {
    engine.openSequence(sequence, {
      sampling: GREEDY,
      topLogprobs: -1,
      promptTokens: new Int32Array(0),
      pages: densePages(engine, sequence, WARM_STEPS + STEPS),
    })
  }
  const times: number[] = []
  for (let position = 0; position < WARM_STEPS + STEPS; position++) {
    const startedAt = performance.now()
    await engine.step({
      tokens: Int32Array.from({ length: count }, (_, index) => 270 + index),
      positions: new Int32Array(count).fill(position),
      sequences: Int32Array.from({ length: count }, (_, index) => index),
      slots: new Int32Array(count),
      outputs: new Uint8Array(count).fill(1),
    })
    if (position >= WARM_STEPS) times.push(performance.now() - startedAt)
  }
  for (let sequence = 0; sequence < count; sequence++) engine.closeSequence(sequence)
  return times
}
