/**
 * CPU and device compute the same: base and adapters of mixed ranks and targets in one batch, each
 * row's log probabilities against the CPU executor's, per type of the base's weights.
 */
import { relativeError } from '../../native/test/support/logprobs.ts'
import { Random } from '../../native/test/support/random.ts'
import { runTogether, type TestRequest, type Trace } from '../../native/test/support/requests.ts'
import { MIXED_RECIPES, openTestBase } from '../../native/test/support/test-base.ts'
import { TINY_F16 } from '../lib/base-model.ts'
import { significant } from '../lib/statistics.ts'
import { deviceOf, type GpuRun, note } from './run.ts'

/**
 * Largest difference of a log probability, relative to the row's spread (logprobs.ts). The CPU's
 * portable graph lies 2.5e-3, 2.9e-3 and 2.0e-2 from the executor, an H200 2.2e-3, 2.5e-3 and
 * 1.7e-2; the bounds are about twice that.
 */
const BOUNDS = { F32: 5e-3, F16: 5e-3, Q8_0: 4e-2 } as const
type WeightType = keyof typeof BOUNDS

const PROMPT_TOKENS = 40
const DRAW_COUNT = 24

export async function runParity(run: GpuRun) {
  const types: Partial<Record<WeightType, object>> = {}
  for (const weightType of Object.keys(BOUNDS) as WeightType[]) {
    types[weightType] = await compare(run, weightType)
    note(`parity: ${weightType} ${JSON.stringify(types[weightType])}`)
  }
  return { types }
}

async function compare(run: GpuRun, weightType: WeightType) {
  const shape = { ...TINY_F16, name: `parity-${weightType}`, weightType }
  const expected = await openTestBase(shape)
  const actual = await openTestBase(shape, 1, deviceOf(run))
  try {
    const random = new Random('gpu parity', weightType)
    const token = () => random.integer(shape.vocabularySize)
    const prompt = Array.from({ length: PROMPT_TOKENS }, token)
    const slots = [0, ...MIXED_RECIPES.map((_, index) => index + 1)]
    const requests = slots.map((slot): TestRequest => ({ prompt, slot, drawCount: DRAW_COUNT }))
    const ours = await runTogether(actual.engine, requests)
    const theirs = await runTogether(expected.engine, requests)
    const errors = ours.map((trace, index) =>
      pairRows(trace, theirs[index]).map(([one, other]) => relativeError(one, other)),
    )
    const largest = Math.max(...errors.flat())
    const bound = BOUNDS[weightType]
    return {
      device: actual.engine.info.device,
      rows: errors.flat().length,
      largest: significant(largest),
      largest_by_slot: errors.map((rows) => significant(Math.max(...rows))),
      bound,
      // NaN is no number below the bound.
      holds: largest < bound,
    }
  } finally {
    await Promise.all([expected.close(), actual.close()])
  }
}

/** Rows of the same text: up to the first token that the two drew differently. */
function pairRows(one: Trace, other: Trace | undefined): [Float32Array, Float32Array][] {
  const fork = one.tokens.findIndex((token, at) => token !== other?.tokens[at])
  const count = fork < 0 ? one.rows.length : PROMPT_TOKENS + fork
  return one.rows.slice(0, count).map((row, at) => [row, other?.rows[at] ?? new Float32Array()])
}
