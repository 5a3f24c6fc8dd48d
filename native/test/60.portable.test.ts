/**
 * The graph in ggml's own operators, which every device but the CPU runs, computes what the CPU's
 * form, libllama and the float64 model compute: shown here on the CPU, where each of its operators
 * has a kernel too. What a GPU's kernels add is measured by scripts/gpu-acceptance alone.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Float64Model } from './support/float64-model.ts'
import { referenceLogits } from './support/llama-reference.ts'
import { firstDifference, logSoftmax, relativeError } from './support/logprobs.ts'
import { EVERY_SLOT, FEW_SLOTS, randomPrompt, randomRequests } from './support/parity-suite.ts'
import { POPULARITIES, pickSlots } from './support/popularity.ts'
import { Random } from './support/random.ts'
import { runTogether, type TestRequest, type Trace } from './support/requests.ts'
import { createSyntheticAdapter } from './support/synthetic-adapter.ts'
import { type SyntheticShape, TINY, TINY_QWEN2, TINY_QWEN3 } from './support/synthetic-gguf.ts'
import {
  CONTEXT_LENGTH,
  MIXED_RECIPES,
  openTestBase,
  SPARE_SLOT,
  type TestBase,
} from './support/test-base.ts'
import { PORTABLE_TOLERANCES } from './support/tolerances.ts'

const SHAPES: Record<string, SyntheticShape> = {
  'F32, tied': TINY,
  'F32, every query head its own keys': { ...TINY, headCountKv: 4 },
  'F32, lengths that are no multiple of 64': { ...TINY, embeddingLength: 96, headCount: 6 },
  'F16, untied': { ...TINY, isTied: false, weightType: 'F16' },
  'Q8_0, tied': { ...TINY, weightType: 'Q8_0' },
  'F16, an input that is cut into parts': {
    ...TINY,
    feedForwardLength: 1536,
    weightType: 'F16',
  },
  'qwen2, F32, untied, linear RoPE': {
    ...TINY_QWEN2,
    isTied: false,
    biases: [...TINY_QWEN2.biases, 'output'],
    ropeScaling: { type: 'linear', factor: 4 },
  },
  'qwen3, F32, YaRN': {
    ...TINY_QWEN3,
    ropeScaling: { type: 'yarn', factor: 4, originalContextLength: 64 },
  },
}
const DRAW_COUNT = 16

function largestError(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  expect(actual.length).toBe(expected.length)
  return Math.max(
    ...actual.map((row, at) => relativeError(row, expected[at] ?? new Float32Array())),
  )
}

/** Rows up to the first token that the two drew differently: later ones answer another text. */
function commonRows(one: Trace, other: Trace, promptLength: number): number {
  const fork = one.tokens.findIndex((token, at) => token !== other.tokens[at])
  return fork < 0 ? one.rows.length : promptLength + fork
}

describe.each(Object.entries(SHAPES))('the portable graph of %s', (_, shape) => {
  const tolerance = PORTABLE_TOLERANCES[shape.weightType]
  if (!tolerance) throw new RangeError(`no tolerance is stated for ${shape.weightType}`)
  const prompt = randomPrompt(shape.vocabularySize, new Random('portable'), 24)
  const requests = EVERY_SLOT.map((slot): TestRequest => ({ prompt, slot, drawCount: DRAW_COUNT }))
  let portable: TestBase
  let own: TestBase
  let mixed: Trace[]

  beforeAll(async () => {
    portable = await openTestBase(shape, 1, { graph: 'portable' })
    own = await openTestBase(shape)
    mixed = await runTogether(portable.engine, requests)
  })
  afterAll(() => Promise.all([portable.close(), own.close()]))

  function textOf(trace: Trace): number[] {
    return [...prompt, ...trace.tokens.slice(0, -1)]
  }

  it('agrees with the float64 model for the base and every adapter, in one batch', () => {
    const model = new Float64Model(shape, CONTEXT_LENGTH)
    for (const [slot, trace] of mixed.entries()) {
      expect(trace.rows.length).toBe(prompt.length + DRAW_COUNT - 1)
      const logits = model.logits(textOf(trace), portable.adapters[slot - 1]?.adapter ?? null)
      const error = largestError(
        trace.rows,
        logits.map((row) => Float32Array.from(logSoftmax(row))),
      )
      expect(error, `slot ${slot}`).toBeLessThan(tolerance.float64)
    }
  })

  it.each(FEW_SLOTS)('agrees with libllama, slot %i among others', async (slot) => {
    const trace = mixed[slot] ?? expect.fail('no such request')
    const logits = await referenceLogits({
      modelPath: portable.modelPath,
      adapterPath: portable.adapters[slot - 1]?.path ?? null,
      tokens: textOf(trace),
      vocabularySize: shape.vocabularySize,
    })
    const error = largestError(
      trace.rows,
      logits.map((row) => Float32Array.from(logSoftmax(row))),
    )
    expect(error).toBeLessThan(tolerance.libllama)
  })

  it('tells any two adapters apart by more than the tolerances', () => {
    const at = prompt.length - 1
    for (const [slot, { rows }] of mixed.entries()) {
      for (const [other, { rows: others }] of mixed.slice(0, slot).entries()) {
        const difference = relativeError(rows[at] ?? [], others[at] ?? new Float32Array())
        expect(difference, `slots ${slot} and ${other}`).toBeGreaterThan(2 * tolerance.float64)
      }
    }
  })

  it.each(POPULARITIES)('agrees with the CPU’s form on %s adapters', async (popularity) => {
    const random = new Random(popularity, shape.name)
    const some = randomRequests(
      shape,
      random,
      pickSlots(popularity, 12, MIXED_RECIPES.length, random),
    )
    const traces = await runTogether(portable.engine, some)
    const expected = await runTogether(own.engine, some)
    for (const [index, request] of some.entries()) {
      const [one, other] = [traces[index], expected[index]]
      if (!one || !other) return expect.fail('no such request')
      const count = commonRows(one, other, request.prompt.length)
      const error = largestError(one.rows.slice(0, count), other.rows.slice(0, count))
      expect(error, JSON.stringify(request)).toBeLessThan(tolerance.own)
    }
  })

  it('adds exactly nothing to rows without an adapter', async () => {
    const bare = requests.map((request): TestRequest => ({ ...request, slot: 0 }))
    const [alone] = await runTogether(portable.engine, bare)
    expect(firstDifference(mixed[0]?.rows ?? [], alone?.rows ?? [])).toBeNull()
  })

  it('cuts long prompts into products of few rows', async () => {
    const long = randomPrompt(shape.vocabularySize, new Random('long'), 110)
    const several = [1, 2, 3].map((slot): TestRequest => ({ prompt: long, slot, drawCount: 1 }))
    const together = await runTogether(portable.engine, several)
    for (const [index, request] of several.entries()) {
      const [expected] = await runTogether(own.engine, [request])
      const error = largestError(together[index]?.rows ?? [], expected?.rows ?? [])
      expect(error, `slot ${request.slot}`).toBeLessThan(tolerance.own)
    }
  })

  it('lets NaN of one adapter reach no request but its own, then or later', async () => {
    const { payload, manifest } = portable.adapters[0]?.adapter ?? expect.fail('no adapter')
    const poison = new Uint8Array(new Uint16Array(payload.length / 2).fill(0x7e00).buffer)
    await portable.engine.loadSlot(SPARE_SLOT, { manifest, payload: poison })
    const request: TestRequest = { prompt: [5, 6, 7, 8], slot: 1, drawCount: 12 }
    // Gone after one step, as the poisoned one will be: the batches are equally large.
    const passing: TestRequest = { ...request, slot: 2, drawCount: 1 }
    const [, before] = await runTogether(portable.engine, [passing, request])
    const [poisoned, beside] = await runTogether(portable.engine, [
      { ...request, slot: SPARE_SLOT },
      request,
    ])
    expect(poisoned?.isNonFinite).toBe(true)
    expect(firstDifference(beside?.rows ?? [], before?.rows ?? [])).toBeNull()
    // Uses the cells of the poisoned sequence, and the slot.
    await portable.engine.loadSlot(SPARE_SLOT, { manifest, payload })
    const [after] = await runTogether(portable.engine, [{ ...request, slot: SPARE_SLOT }])
    const [expected] = await runTogether(portable.engine, [request])
    expect(firstDifference(after?.rows ?? [], expected?.rows ?? [])).toBeNull()
  })

  it('keeps nothing of an earlier adapter in a slot', async () => {
    const request: TestRequest = { prompt: [9, 8, 7], slot: SPARE_SLOT, drawCount: 4 }
    for (const recipe of [...MIXED_RECIPES, ...MIXED_RECIPES.toReversed()]) {
      await portable.engine.loadSlot(SPARE_SLOT, createSyntheticAdapter(shape, recipe))
      const slot = MIXED_RECIPES.indexOf(recipe) + 1
      const [actual] = await runTogether(portable.engine, [request])
      const [expected] = await runTogether(portable.engine, [{ ...request, slot }])
      expect(firstDifference(actual?.rows ?? [], expected?.rows ?? [])).toBeNull()
    }
  })
})

it('the portable graph takes the same workspace for any number of layers', async () => {
  const bases = [await openTestBase(TINY, 1, { graph: 'portable' })]
  bases.push(await openTestBase({ ...TINY, layerCount: 9 }, 1, { graph: 'portable' }))
  const [few, many] = bases.map(({ engine }) => engine.info.memory.workspace)
  expect(many).toBe(few)
  await Promise.all(bases.map((base) => base.close()))
})
