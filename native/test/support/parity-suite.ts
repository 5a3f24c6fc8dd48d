/**
 * What every base model must show: logits that agree with libllama's on the same files and with a
 * naive float64 model, and that do not change by a bit with a request's company. Tests are declared
 * in the caller's file.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Float64Model } from './float64-model.ts'
import { referenceLogits } from './llama-reference.ts'
import { firstDifference, logSoftmax, relativeError } from './logprobs.ts'
import { POPULARITIES, type Popularity, pickSlots } from './popularity.ts'
import { Random } from './random.ts'
import { runTogether, type TestRequest, type Trace } from './requests.ts'
import type { SyntheticShape } from './synthetic-gguf.ts'
import {
  CONTEXT_LENGTH,
  MIXED_RECIPES,
  openTestBase,
  SPARE_SLOT,
  type TestBase,
} from './test-base.ts'
import type { Tolerance } from './tolerances.ts'

const DRAW_COUNT = 32
export const EVERY_SLOT = [0, ...MIXED_RECIPES.map((_, index) => index + 1)]
/** libllama takes a process per run; float64 checks the rest. */
export const FEW_SLOTS = [0, 2]

/** Requests that come and go at different steps, with prompts in pieces. */
export function randomRequests(
  { vocabularySize }: SyntheticShape,
  random: Random,
  slots: readonly number[],
): TestRequest[] {
  return slots.map((slot) => ({
    prompt: randomPrompt(vocabularySize, random, 1 + random.integer(30)),
    slot,
    drawCount: 1 + random.integer(16),
    startStep: random.integer(6),
    chunkRows: 1 + random.integer(12),
  }))
}

export function randomPrompt(vocabularySize: number, random: Random, length: number): number[] {
  return Array.from({ length }, () => random.integer(vocabularySize))
}

function expectSameBits(actual: Trace | undefined, expected: Trace | undefined, of: string): void {
  expect(expected?.rows.length, of).toBeGreaterThan(0)
  expect(firstDifference(actual?.rows ?? [], expected?.rows ?? []), of).toBeNull()
  expect(actual?.tokens, of).toEqual(expected?.tokens)
}

async function runAlone(base: TestBase, request: TestRequest): Promise<Trace | undefined> {
  const [trace] = await runTogether(base.engine, [request])
  return trace
}

export interface LogitsOptions {
  readonly tolerance: Tolerance
  /** Slots to compare with libllama. */
  readonly librarySlots: readonly number[]
  /** Slots to compare with the float64 model. */
  readonly float64Slots: readonly number[]
}

/** One prompt, continued for the base alone and for each adapter, all in the same steps. */
export function describeLogits(name: string, shape: SyntheticShape, options: LogitsOptions): void {
  describe(`logits of ${name}`, () => {
    const { tolerance, librarySlots, float64Slots } = options
    const prompt = randomPrompt(shape.vocabularySize, new Random('parity'), 24)
    const requests = EVERY_SLOT.map(
      (slot): TestRequest => ({ prompt, slot, drawCount: DRAW_COUNT }),
    )
    let base: TestBase
    let mixed: Trace[]

    beforeAll(async () => {
      base = await openTestBase(shape)
      mixed = await runTogether(base.engine, requests)
    })
    afterAll(() => base.close())

    /** The tokens whose rows a trace has. */
    function textOf(trace: Trace): number[] {
      return [...prompt, ...trace.tokens.slice(0, -1)]
    }

    function expectClose(
      trace: Trace,
      logits: readonly (Float32Array | Float64Array)[],
      max: number,
    ) {
      expect(trace.rows.length).toBe(prompt.length + DRAW_COUNT - 1)
      expect(logits.length).toBe(trace.rows.length)
      const errors = logits.map((row, at) => relativeError(trace.rows[at] ?? [], logSoftmax(row)))
      expect(Math.max(...errors)).toBeLessThan(max)
    }

    it.each(librarySlots)('agree with libllama, slot %i among others', async (slot) => {
      const trace = mixed[slot] ?? expect.fail('no such request')
      const logits = await referenceLogits({
        modelPath: base.modelPath,
        adapterPath: base.adapters[slot - 1]?.path ?? null,
        tokens: textOf(trace),
        vocabularySize: shape.vocabularySize,
      })
      expectClose(trace, logits, tolerance.libllama)
    })

    it('agree with the model computed in float64', () => {
      const model = new Float64Model(shape, CONTEXT_LENGTH)
      for (const slot of float64Slots) {
        const trace = mixed[slot] ?? expect.fail('no such request')
        const logits = model.logits(textOf(trace), base.adapters[slot - 1]?.adapter ?? null)
        expectClose(trace, logits, tolerance.float64)
      }
    })

    it('are the same alone, to the last of 32 tokens', async () => {
      for (const request of requests) {
        expectSameBits(mixed[request.slot], await runAlone(base, request), `slot ${request.slot}`)
      }
    })

    it('differ between any two adapters by more than the tolerances', () => {
      const floor = 2 * Math.max(tolerance.float64, tolerance.libllama)
      for (const [slot, { rows }] of mixed.entries()) {
        for (const [other, { rows: others }] of mixed.entries()) {
          if (slot === other) continue
          const at = prompt.length - 1
          const difference = relativeError(rows[at] ?? [], others[at] ?? new Float32Array())
          expect(difference, `slots ${slot} and ${other}`).toBeGreaterThan(floor)
        }
      }
    })

    it('are the same in company that comes and goes', async () => {
      await expectNoInfluence(base, 'zipf')
    })
  })
}

async function expectNoInfluence(base: TestBase, popularity: Popularity): Promise<void> {
  const random = new Random(popularity, base.shape.weightType)
  const slots = pickSlots(popularity, 12, MIXED_RECIPES.length, random)
  const requests = randomRequests(base.shape, random, slots)
  const mixed = await runTogether(base.engine, requests)
  for (const [index, request] of requests.entries()) {
    expectSameBits(mixed[index], await runAlone(base, request), JSON.stringify(request))
  }
}

/** Company in every shape, and what else must not show: outputs asked for, threads, NaN. */
export function describeCompany(name: string, shape: SyntheticShape): void {
  describe(`company with ${name}`, () => {
    let base: TestBase

    beforeAll(async () => {
      base = await openTestBase(shape)
    })
    afterAll(() => base.close())

    it.each(POPULARITIES)('of %s adapters changes no bit of any row', async (popularity) => {
      await expectNoInfluence(base, popularity)
    })

    it('changes no bit when only the newest rows ask for outputs, as a scheduler does', async () => {
      const requests = randomRequests(shape, new Random('outputs'), EVERY_SLOT)
      const newest = requests.map((request): TestRequest => ({ ...request, outputs: 'newest' }))
      const mixed = await runTogether(base.engine, newest)
      for (const [index, request] of requests.entries()) {
        const every = await runAlone(base, request)
        const rows = every?.rows.slice(request.prompt.length - 1) ?? []
        expectSameBits(mixed[index], every && { ...every, rows }, JSON.stringify(request))
      }
    })

    it('changes no bit with the number of threads', async () => {
      const requests = randomRequests(shape, new Random('threads'), EVERY_SLOT)
      const expected = await runTogether(base.engine, requests)
      const other = await openTestBase(shape, 2)
      try {
        const actual = await runTogether(other.engine, requests)
        for (const [index, trace] of actual.entries()) {
          expectSameBits(trace, expected[index], `request ${index}`)
        }
      } finally {
        await other.close()
      }
    })

    it('lets NaN of one adapter reach no request but its own, then or later', async () => {
      const { payload, manifest } = base.adapters[0]?.adapter ?? expect.fail('no adapter')
      const poison = new Uint8Array(new Uint16Array(payload.length / 2).fill(0x7e00).buffer)
      await base.engine.loadSlot(SPARE_SLOT, { manifest, payload: poison })
      const request: TestRequest = { prompt: [5, 6, 7, 8], slot: 1, drawCount: 12 }
      const before = await runAlone(base, request)
      const [poisoned, beside] = await runTogether(base.engine, [
        { ...request, slot: SPARE_SLOT },
        request,
      ])
      expect(poisoned?.isNonFinite).toBe(true)
      expectSameBits(beside, before, 'beside')
      // Uses the cells of the poisoned sequence.
      expectSameBits(await runAlone(base, request), before, 'afterwards')
    })
  })
}
