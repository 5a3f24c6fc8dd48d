import { describe, expect, it } from 'vitest'
import { planPromotion, planRollback, planShares, planWeight } from './deployment-plan.ts'

const alone = { name: 'bot', version: 3, replaced: 1, canary: null }
const withCanary = { ...alone, canary: { version: 4, weight: 10 } }
const refusal = (code: string) => expect.objectContaining({ code })

describe('a split', () => {
  it('changes the weight of the canary that runs', () => {
    const canary = { version: 4, weight: 50 }
    expect(planWeight(withCanary, 50)).toEqual({ main: 3, canary, replaces: null })
    expect(() => planWeight(alone, 50)).toThrow(refusal('version_unavailable'))
  })

  it('keeps the main version where it is named, whatever the order', () => {
    const shares = [
      { version: 5, weight: 40 },
      { version: 3, weight: 60 },
    ]
    const canary = { version: 5, weight: 40 }
    expect(planShares(alone, shares)).toEqual({ main: 3, canary, replaces: null })
  })

  it('makes the first the main version where it names other ones', () => {
    const shares = [
      { version: 4, weight: 90 },
      { version: 5, weight: 10 },
    ]
    const canary = { version: 5, weight: 10 }
    expect(planShares(alone, shares)).toEqual({ main: 4, canary, replaces: 3 })
    const back = [{ version: 2, weight: 100 }]
    expect(planShares(withCanary, back)).toEqual({ main: 2, canary: null, replaces: null })
  })

  it.each([
    [[]],
    [[{ version: 3, weight: 99 }]],
    [
      [
        { version: 3, weight: 50 },
        { version: 3, weight: 50 },
      ],
    ],
  ])('needs weights that make 100 (%j)', (shares) => {
    expect(() => planShares(alone, shares)).toThrow(refusal('invalid_request'))
  })
})

it('a promotion makes the canary the main version, and notes what it replaces', () => {
  expect(planPromotion(withCanary)).toEqual({ main: 4, canary: null, replaces: 3 })
  expect(() => planPromotion(alone)).toThrow(refusal('version_unavailable'))
})

it('a rollback goes where the main version came from, or to the one that is named', () => {
  expect(planRollback(withCanary, null)).toEqual({ main: 1, canary: null, replaces: null })
  expect(planRollback(alone, 2)).toEqual({ main: 2, canary: null, replaces: null })
  const first = { ...alone, version: 1, replaced: null }
  expect(() => planRollback(first, null)).toThrow(refusal('version_unavailable'))
})
