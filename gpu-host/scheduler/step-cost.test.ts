import { describe, expect, it } from 'vitest'
import { StepCost } from './step-cost.ts'

/** Steps of a machine that takes `fixedUs` a step and `rowUs` a row, some of them with prompts. */
function measured(fixedUs: number, rowUs: number, decodes = 10): StepCost {
  const cost = new StepCost()
  for (let step = 0; step < 200; step++) {
    const rows = decodes + (step % 4 === 0 ? 50 : 0)
    const engineUs = fixedUs + rows * rowUs
    cost.observe({ rows, decodes, engineUs, wallUs: engineUs + 500 })
  }
  return cost
}

describe('StepCost', () => {
  it('knows what a prompt token costs beside a drawn one', () => {
    // A drawn token: 600 of its own, and a tenth of 10,000.
    expect(measured(10_000, 600).promptCost).toBeCloseTo(600 / 1600, 3)
    expect(measured(10_000, 600, 1).promptCost).toBeCloseTo(600 / 10_600, 3)
    expect(measured(0, 600).promptCost).toBeCloseTo(1, 3)
    expect(measured(10_000, 0).promptCost).toBeCloseTo(1 / 32, 3)
  })

  it('tells the fixed part of a step from the part of a row, and keeps both while steps are alike', () => {
    const cost = measured(10_000, 600)
    expect(cost.parts?.fixedUs).toBeCloseTo(10_000, 0)
    expect(cost.parts?.rowUs).toBeCloseTo(600, 1)
    // Alike but for noise, which must not be taken for what a row costs.
    for (let step = 0; step < 2000; step++) {
      const noisyUs = step % 4 < 2 ? 14_000 : 18_000
      cost.observe({ rows: 10 + (step % 2), decodes: 10, engineUs: noisyUs, wallUs: noisyUs })
    }
    expect(cost.parts?.rowUs).toBeGreaterThan(500)
  })

  it('says how long a step takes, all in all, and follows when that changes', () => {
    const cost = measured(10_000, 0)
    expect(cost.stepMs).toBeCloseTo(10.5, 3)
    for (let step = 0; step < 100; step++) {
      cost.observe({ rows: 10, decodes: 10, engineUs: 1000, wallUs: 30_000 })
    }
    expect(cost.stepMs).toBeGreaterThan(29)
  })

  it('claims nothing while it has seen too little', () => {
    const cost = new StepCost()
    expect(cost.promptCost).toBe(0.5)
    for (let step = 0; step < 19; step++) {
      expect(cost.stepMs).toBeNull()
      cost.observe({ rows: 1, decodes: 1, engineUs: 1000, wallUs: 1000 })
    }
    cost.observe({ rows: 1, decodes: 1, engineUs: 1000, wallUs: 1000 })
    expect(cost.stepMs).toBe(1)
    // Steps that are all alike do not tell a row's part from the fixed one.
    expect(cost.promptCost).toBe(0.5)
    expect(cost.parts).toBeNull()
  })
})
