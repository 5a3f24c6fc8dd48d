import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type PlannableSequence, planStep, prefillBudget, shareStepTime } from './step-plan.ts'

const decoding = (sequence: number, lastStep = 0): PlannableSequence => ({
  ...{ sequence, promptRemaining: 0, lastStep, isYielding: false },
})
const prefilling = (sequence: number, promptRemaining: number): PlannableSequence => ({
  ...{ sequence, promptRemaining, lastStep: -1, isYielding: false },
})
const yielding = (sequence: PlannableSequence): PlannableSequence => ({
  ...{ ...sequence, isYielding: true },
})
const rowsOf = (plan: readonly { rows: number }[]): number =>
  plan.reduce((sum, { rows }) => sum + rows, 0)

describe('planStep', () => {
  it('runs every decode before any prompt', () => {
    const plan = planStep([prefilling(0, 500), decoding(1), decoding(2)], {
      rowsMax: 32,
      prefillRowsMax: 16,
      parts: null,
    })
    expect(plan).toEqual([
      { sequence: 1, rows: 1 },
      { sequence: 2, rows: 1 },
      { sequence: 0, rows: 16 },
    ])
  })

  it('does not let a long prompt hold up a short one', () => {
    const plan = planStep([prefilling(0, 10_000), prefilling(1, 5)], {
      rowsMax: 64,
      prefillRowsMax: 64,
      parts: null,
    })
    expect(plan).toContainEqual({ sequence: 1, rows: 5 })
    expect(plan).toContainEqual({ sequence: 0, rows: 59 })
  })

  it('advances prompts even when decodes alone would fill the step', () => {
    const sequences = [...Array.from({ length: 40 }, (_, i) => decoding(i)), prefilling(40, 100)]
    const plan = planStep(sequences, { rowsMax: 32, prefillRowsMax: 32, parts: null })
    expect(plan.find(({ sequence }) => sequence === 40)?.rows).toBe(4)
  })

  it('serves those first that were served longest ago', () => {
    const plan = planStep([decoding(0, 9), decoding(1, 3), decoding(2, 5)], {
      rowsMax: 2,
      prefillRowsMax: 2,
      parts: null,
    })
    expect(plan.map(({ sequence }) => sequence)).toEqual([1, 2])
  })

  describe('beside sequences that yield', () => {
    const budget = { rowsMax: 256, prefillRowsMax: 128, parts: { fixedUs: 5000, rowUs: 500 } }

    it('keeps a step short that is filled with their prompts', () => {
      const decodes = Array.from({ length: 8 }, (_, i) => yielding(decoding(i)))
      const plan = planStep([...decodes, yielding(prefilling(9, 200))], budget)
      // Four times its fixed part: 30 rows beside it.
      expect(rowsOf(plan)).toBe(30)
      // Where nothing is known of steps, or rows cost nothing, they are as long as for others.
      for (const parts of [null, { fixedUs: 5000, rowUs: 0 }]) {
        expect(rowsOf(planStep([yielding(prefilling(9, 200))], { ...budget, parts }))).toBe(128)
      }
    })

    it("reads others' prompts first, as much of them as fits", () => {
      const plan = planStep([yielding(prefilling(0, 200)), prefilling(1, 100)], budget)
      expect(plan).toEqual([{ sequence: 1, rows: 100 }])
      const short = planStep([yielding(prefilling(0, 200)), prefilling(1, 10)], budget)
      expect(short).toContainEqual({ sequence: 1, rows: 10 })
      expect(short).toContainEqual({ sequence: 0, rows: 20 })
    })

    it("lets their decodes sit out a step that reads others' prompts, never two in a row", () => {
      const decodes = Array.from({ length: 12 }, (_, i) => yielding(decoding(i, 7)))
      const others = [decoding(20, 7), prefilling(21, 32)]
      const ran = (plan: readonly { sequence: number }[]) => plan.map(({ sequence }) => sequence)
      expect(ran(planStep([...decodes, ...others], budget))).toEqual([20, 21])
      // They were not in step 8.
      const after = [...decodes, decoding(20, 8), prefilling(21, 32)]
      expect(planStep(after, budget)).toHaveLength(14)
      expect(planStep([...decodes, decoding(20, 7)], budget)).toHaveLength(13)
      // Twelve rows take less than the step costs that they would need.
      const wide = { ...budget, parts: { fixedUs: 5000, rowUs: 400 } }
      expect(planStep([...decodes, ...others], wide)).toHaveLength(14)
    })
  })

  it('never plans more rows than fit, more than remain, or a sequence twice', () => {
    const sequence = fc.record({
      promptRemaining: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 300 })),
      lastStep: fc.integer({ min: -1, max: 20 }),
      isYielding: fc.boolean(),
    })
    const parts = fc.option(fc.record({ fixedUs: fc.nat(9000), rowUs: fc.nat(900) }))
    fc.assert(
      fc.property(
        fc.array(sequence, { maxLength: 40 }),
        fc.integer({ min: 1, max: 128 }),
        fc.integer({ min: 1, max: 128 }),
        parts,
        (entries, rowsMax, prefillRowsMax, stepParts) => {
          const sequences = entries.map((entry, i) => ({ ...entry, sequence: i }))
          const plan = planStep(sequences, { rowsMax, prefillRowsMax, parts: stepParts })
          expect(rowsOf(plan)).toBeLessThanOrEqual(rowsMax)
          expect(new Set(plan.map((rows) => rows.sequence)).size).toBe(plan.length)
          if (sequences.length > 0) expect(rowsOf(plan)).toBeGreaterThan(0)
          for (const { sequence: index, rows } of plan) {
            const remaining = sequences[index]?.promptRemaining ?? 0
            expect(rows).toBeGreaterThan(0)
            expect(rows).toBeLessThanOrEqual(Math.max(1, remaining))
          }
        },
      ),
    )
  })
})

describe('shareStepTime', () => {
  it('shares every microsecond, each once', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 1e9 }),
        fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 50 }),
        (engineUs, rowCounts) => {
          const shares = shareStepTime(engineUs, rowCounts)
          expect(shares.reduce((sum, us) => sum + us, 0)).toBe(engineUs)
          for (const share of shares) expect(Number.isInteger(share) && share >= 0).toBe(true)
        },
      ),
    )
  })

  it('gives each row the same within a microsecond', () => {
    expect(shareStepTime(100, [1, 1, 1])).toEqual([33, 33, 34])
    expect(shareStepTime(1000, [9, 1])).toEqual([900, 100])
  })
})

describe('prefillBudget', () => {
  const bounds = { min: 16, max: 256 }
  it('fits prefill to the target step time, within its bounds', () => {
    expect(prefillBudget(null, 100_000, bounds)).toBe(256)
    expect(prefillBudget(1000, 100_000, bounds)).toBe(100)
    expect(prefillBudget(50_000, 100_000, bounds)).toBe(16)
    expect(prefillBudget(1, 100_000, bounds)).toBe(256)
  })
})
