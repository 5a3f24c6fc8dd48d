/**
 * `prefix`: what the prefix cache spares a long prompt. The host's own page pool decides what is
 * found; the engine computes the rest.
 */
import { availableParallelism } from 'node:os'
import { PagePool } from '../gpu-host/scheduler/page-pool.ts'
import type { NativeEngine } from '../native/index.ts'
import { Random } from '../native/test/support/random.ts'
import { GREEDY } from '../native/test/support/requests.ts'
import { ensureShape, openBenchEngine, type ShapeName } from './lib/base-model.ts'
import { median, significant } from './lib/statistics.ts'

export interface PrefixOptions {
  readonly shape: ShapeName
  readonly rounds: number
  /** 0 = one per core. */
  readonly threads: number
}

const PROMPT_TOKENS = 1000
const STEP_ROWS = 256
const SCOPE = 'bench'

/** Fields of the report are explained in this folder's README. */
export async function runPrefix({ shape, rounds, ...options }: PrefixOptions) {
  const modelPath = await ensureShape(shape)
  const threads = options.threads || availableParallelism()
  const sizes = { slots: 1, rank: 1, sequences: 2, context: PROMPT_TOKENS + 1, threads }
  const engine = await openBenchEngine(modelPath, sizes)
  try {
    const pool = new PagePool(engine.limits)
    const cold: number[] = []
    const hit: number[] = []
    let cachedTokens = 0
    for (let round = 0; round <= rounds; round++) {
      const random = new Random('prefix', round)
      const prompt = Array.from({ length: PROMPT_TOKENS }, () =>
        random.integer(engine.info.vocabularySize),
      )
      const first = await firstToken(engine, pool, prompt)
      const second = await firstToken(engine, pool, prompt)
      if (first.cachedTokens !== 0 || second.cachedTokens === 0 || first.token !== second.token) {
        throw new Error(`the cache is wrong: ${JSON.stringify({ first, second })}`)
      }
      process.stderr.write(`prefix: round ${round}: ${first.ms} ms, cached ${second.ms} ms\n`)
      if (round === 0) continue
      cold.push(first.ms)
      hit.push(second.ms)
      cachedTokens = second.cachedTokens
    }
    return {
      ...{ shape, threads, device: engine.info.device, rounds },
      prompt_tokens: PROMPT_TOKENS,
      cached_tokens: cachedTokens,
      cold_ms: significant(median(cold)),
      hit_ms: significant(median(hit)),
      ratio: significant(median(cold.map((ms, round) => ms / (hit[round] ?? Number.NaN)))),
    }
  } finally {
    await engine.close()
  }
}

async function firstToken(
  engine: NativeEngine,
  pool: PagePool,
  prompt: readonly number[],
): Promise<{ ms: number; token: number; cachedTokens: number }> {
  const text = { tokenCount: prompt.length, tokenAt: (position: number) => prompt[position] ?? 0 }
  const beginMs = performance.now()
  const lease = pool.acquire(SCOPE, text)
  if (!pool.grow(lease, prompt.length)) throw new Error('the pool holds no prompt')
  engine.openSequence(0, {
    ...{ sampling: GREEDY, topLogprobs: -1, promptTokens: new Int32Array(0) },
    ...{ pages: Int32Array.from(lease.pages), filledCells: lease.hitCells },
  })
  let token = -1
  for (let position = lease.hitCells; position < prompt.length; position += STEP_ROWS) {
    const tokens = Int32Array.from(prompt.slice(position, position + STEP_ROWS))
    const outputs = new Uint8Array(tokens.length)
    if (position + tokens.length === prompt.length) outputs[tokens.length - 1] = 1
    const { sampled } = await engine.step({
      ...{ tokens, outputs, positions: tokens.map((_, index) => position + index) },
      ...{ sequences: new Int32Array(tokens.length), slots: new Int32Array(tokens.length) },
    })
    token = sampled[0]?.token ?? token
  }
  const ms = performance.now() - beginMs
  pool.publish(lease, text, prompt.length)
  engine.closeSequence(0)
  pool.release(lease)
  return { ms: significant(ms), token, cachedTokens: lease.hitCells }
}
