/**
 * The engine computes what the model says: its logits agree with libllama's on the same files and
 * with a naive float64 model, and a request's numbers do not change with the company it is in.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Float64Model } from './support/float64-model.ts'
import { referenceLogits } from './support/llama-reference.ts'
import { logSoftmax, relativeError } from './support/logprobs.ts'
import { POPULARITIES, pickSlots } from './support/popularity.ts'
import { Random } from './support/random.ts'
import { runTogether, type TestRequest, type Trace } from './support/requests.ts'
import { type SyntheticShape, TINY } from './support/synthetic-gguf.ts'
import { MIXED_RECIPES, openTestPool, SPARE_SLOT, type TestPool } from './support/test-pool.ts'
import { LONE_ROW_TOLERANCES, TOLERANCES } from './support/tolerances.ts'

const SHAPES: Record<string, SyntheticShape> = {
  'F32, tied': TINY,
  'F32, untied': { ...TINY, isTied: false },
  'F32, every query head its own keys': { ...TINY, headCountKv: 4 },
  'F32, heads wider than the embedding': { ...TINY, headLength: 32 },
  'F32, linear RoPE scaling': { ...TINY, ropeFactor: 4 },
  'F32, RoPE frequency divisors': { ...TINY, hasRopeFrequencies: true },
  'F16, untied': { ...TINY, isTied: false, weightType: 'F16' },
  'Q8_0, tied': { ...TINY, weightType: 'Q8_0' },
  'Q8_0, untied': { ...TINY, isTied: false, weightType: 'Q8_0' },
}
const DRAW_COUNT = 33

function randomPrompt(random: Random, length: number): number[] {
  return Array.from({ length }, () => random.integer(TINY.vocabularySize))
}

function largestError(rows: readonly Float32Array[], expected: readonly ArrayLike<number>[]) {
  expect(rows.length).toBe(expected.length)
  return Math.max(
    ...rows.map((row, index) => relativeError(row, Float64Array.from(expected[index] ?? []))),
  )
}

describe.each(Object.entries(SHAPES))('logits of %s', (_, shape) => {
  const tolerance = TOLERANCES[shape.weightType]
  const prompt = randomPrompt(new Random('parity'), 24)
  let pool: TestPool
  /** Slot 0 first; each ran alone. */
  let alone: Trace[]
  let mixed: Trace[]

  beforeAll(async () => {
    pool = await openTestPool(shape)
    const requests = [0, ...pool.adapters.map((adapter) => adapter.slot)].map(
      (slot): TestRequest => ({ prompt, slot, drawCount: DRAW_COUNT }),
    )
    alone = []
    for (const request of requests) alone.push(...(await runTogether(pool.engine, [request])))
    mixed = await runTogether(pool.engine, requests)
  })
  afterAll(() => pool.close())

  function textOf(trace: Trace): number[] {
    return [...prompt, ...trace.tokens.slice(0, -1)]
  }

  async function libllamaRows(trace: Trace, slot: number): Promise<Float64Array[]> {
    const logits = await referenceLogits({
      modelPath: pool.modelPath,
      adapterPath: pool.adapters[slot - 1]?.path ?? null,
      tokens: textOf(trace),
      vocabularySize: shape.vocabularySize,
    })
    return logits.map(logSoftmax)
  }

  it('agree with libllama, base and each adapter, alone and mixed', async () => {
    for (const traces of [alone, mixed]) {
      for (const [slot, trace] of traces.entries()) {
        const expected = await libllamaRows(trace, slot)
        expect(largestError(trace.rows, expected), `slot ${slot}`).toBeLessThan(tolerance.libllama)
      }
    }
  })

  it('agree with the model computed in float64', () => {
    const model = new Float64Model(shape)
    for (const [slot, trace] of mixed.entries()) {
      const adapter = pool.adapters[slot - 1]?.adapter ?? null
      const expected = model.logits(textOf(trace), adapter).map(logSoftmax)
      expect(largestError(trace.rows, expected), `slot ${slot}`).toBeLessThan(tolerance.float64)
    }
  })

  it('differ between any two adapters by far more than the tolerances', () => {
    const first = mixed.map((trace) => trace.rows[prompt.length - 1] ?? new Float32Array())
    for (const [slot, row] of first.entries()) {
      for (const [other, otherRow] of first.entries()) {
        if (slot === other) continue
        const floor = 2 * Math.max(tolerance.float64, tolerance.libllama)
        expect(relativeError(row, otherRow), `${slot} and ${other}`).toBeGreaterThan(floor)
      }
    }
  })

  it('draw the same 32 tokens alone and mixed', () => {
    for (const [slot, trace] of mixed.entries()) {
      expect(trace.tokens, `slot ${slot}`).toEqual(alone[slot]?.tokens)
      expect(trace.tokens.length).toBe(DRAW_COUNT)
    }
  })
})

describe.each(['F32', 'F16', 'Q8_0'] as const)('company with %s weights', (weightType) => {
  let pool: TestPool

  beforeAll(async () => {
    pool = await openTestPool({ ...TINY, isTied: false, weightType })
  })
  afterAll(() => pool.close())

  /** Requests that come and go at different steps, with prompts in pieces. */
  function randomRequests(random: Random, slots: readonly number[]): TestRequest[] {
    return slots.map((slot) => ({
      prompt: randomPrompt(random, 1 + random.integer(30)),
      slot,
      drawCount: 1 + random.integer(16),
      startStep: random.integer(6),
      chunkRows: 1 + random.integer(12),
    }))
  }

  /** One other request, of the base model alone, for as long as the first runs. */
  function escort(request: TestRequest): TestRequest {
    return { prompt: [7, 8], slot: 0, drawCount: request.drawCount + 60 }
  }

  describe.each(POPULARITIES)('%s adapters', (popularity) => {
    const random = new Random(popularity, weightType)
    const requests = randomRequests(random, pickSlots(popularity, 12, MIXED_RECIPES.length, random))
    // Keeps the last steps of the others from being lone rows.
    const lasting: TestRequest = { prompt: [3], slot: 2, drawCount: 60 }
    let mixed: Trace[]

    beforeAll(async () => {
      mixed = await runTogether(pool.engine, [...requests, lasting, escort(lasting)])
    })

    it('does not change a bit of any row, whatever the others are', async () => {
      for (const [index, request] of requests.entries()) {
        const [quiet] = await runTogether(pool.engine, [request, escort(request)])
        expect(mixed[index]?.tokens, `request ${index}`).toEqual(quiet?.tokens)
        expect(mixed[index]?.rows, `request ${index}`).toEqual(quiet?.rows)
      }
    })

    it('changes a row that ran alone by no more than its tolerance', async () => {
      for (const [index, request] of requests.entries()) {
        const [alone] = await runTogether(pool.engine, [request])
        const error = largestError(mixed[index]?.rows ?? [], alone?.rows ?? [])
        expect(error, `request ${index}`).toBeLessThanOrEqual(LONE_ROW_TOLERANCES[weightType])
      }
    })
  })

  it('does not depend on which rows ask for outputs', async () => {
    for (const request of randomRequests(new Random('outputs'), [0, 1, 2, 3, 4, 5, 6])) {
      const [every] = await runTogether(pool.engine, [request, escort(request)])
      const [newest] = await runTogether(pool.engine, [
        { ...request, outputs: 'newest' },
        { ...escort(request), outputs: 'newest' },
      ])
      expect(newest?.tokens).toEqual(every?.tokens)
      expect(newest?.rows).toEqual(every?.rows.slice(request.prompt.length - 1))
    }
  })

  it('lets NaN of one adapter reach no request but its own, then or later', async () => {
    const [sound] = pool.adapters
    if (!sound) throw new Error('the pool has adapters')
    const { payload, manifest } = sound.adapter
    const poison = new Uint8Array(new Uint16Array(payload.length / 2).fill(0x7e00).buffer)
    await pool.engine.loadSlot(SPARE_SLOT, { manifest, payload: poison })
    const request: TestRequest = { prompt: [5, 6, 7, 8], slot: 1, drawCount: 12 }
    const poisoned: TestRequest = { ...request, slot: SPARE_SLOT }
    const before = await runTogether(pool.engine, [request, escort(request)])
    const beside = await runTogether(pool.engine, [poisoned, request, escort(request)])
    expect(beside[0]?.isNonFinite).toBe(true)
    expect(beside[1]).toEqual(before[0])
    // The poisoned sequence's cells are used again.
    expect(await runTogether(pool.engine, [request, escort(request)])).toEqual(before)
  })
})
