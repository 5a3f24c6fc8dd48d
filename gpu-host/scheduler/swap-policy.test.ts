import { describe, expect, it } from 'vitest'
import { pickStarts, type StartCandidate } from './swap-policy.ts'

const candidate = (
  request: string,
  digest: string | null,
  blockedMs = 0,
): StartCandidate<string> => ({ request, digest, blockedMs })

const situation = (
  pinned: Record<string, number>,
  change: { sequencesFree?: number } = {},
): Parameters<typeof pickStarts>[1] => ({
  pinned: new Map(Object.entries(pinned)),
  slotCount: 2,
  sequencesFree: 8,
  slotWaitMaxMs: 100,
  ...change,
})

describe('pickStarts', () => {
  it('lets requests of pinned adapters and of the base pass one that needs a slot', () => {
    const decision = pickStarts(
      [candidate('cold', 'c'), candidate('warm', 'a'), candidate('base', null)],
      situation({ a: 1, b: 1 }),
    )
    expect(decision).toEqual({ starts: ['warm', 'base'], blocked: ['cold'] })
  })

  it('gives a slot that nobody pins to the first in order, and to all who want the same', () => {
    const decision = pickStarts(
      [candidate('c1', 'c'), candidate('d1', 'd'), candidate('c2', 'c')],
      situation({ a: 1 }),
    )
    expect(decision).toEqual({ starts: ['c1', 'c2'], blocked: ['d1'] })
  })

  it('never starts more than there are free sequences, and blocks nobody for that', () => {
    const decision = pickStarts(
      [candidate('a1', 'a'), candidate('a2', 'a'), candidate('c1', 'c')],
      situation({ a: 1, b: 1 }, { sequencesFree: 1 }),
    )
    expect(decision).toEqual({ starts: ['a1'], blocked: [] })
  })

  it('drains the adapter that is done first once a blocked request has waited long enough', () => {
    const waiting = [candidate('a1', 'a'), candidate('b1', 'b'), candidate('c1', 'c', 101)]
    const decision = pickStarts(waiting, situation({ a: 5, b: 1 }))
    expect(decision.starts).toEqual(['a1'])
    expect(decision.blocked).toEqual(expect.arrayContaining(['b1', 'c1']))
  })

  it('gives the freed slot to whoever was blocked longest', () => {
    const decision = pickStarts(
      [candidate('d1', 'd'), candidate('c1', 'c', 150), candidate('e1', 'e', 200)],
      situation({ a: 1 }),
    )
    expect(decision.starts).toEqual(['e1'])
  })
})
