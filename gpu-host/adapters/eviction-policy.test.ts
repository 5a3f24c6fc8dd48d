import { describe, expect, it } from 'vitest'
import { DemandPolicy } from './eviction-policy.ts'

function use(policy: DemandPolicy, digest: string, times: number): void {
  for (let i = 0; i < times; i++) policy.used(digest)
}

describe('DemandPolicy', () => {
  it('keeps what is asked for often, however lately a rare one was', () => {
    const policy = new DemandPolicy(4)
    use(policy, 'often', 9)
    use(policy, 'rare', 1)
    expect(policy.worth('often', 1)).toBeGreaterThan(policy.worth('rare', 1))
  })

  it('weighs uses with what it costs to bring the adapter back', () => {
    const policy = new DemandPolicy(4)
    use(policy, 'in RAM', 4)
    use(policy, 'on disk', 1)
    expect(policy.worth('on disk', 10)).toBeGreaterThan(policy.worth('in RAM', 1))
  })

  it('forgets old fame', () => {
    const policy = new DemandPolicy(1)
    use(policy, 'old', 50)
    for (let i = 0; i < 200; i++) policy.used(`other ${i}`)
    use(policy, 'new', 3)
    expect(policy.worth('new', 1)).toBeGreaterThan(policy.worth('old', 1))
  })

  it('remembers what left its slot, and knows nothing of what was never asked for', () => {
    const policy = new DemandPolicy(4)
    use(policy, 'gone', 5)
    policy.evicted()
    use(policy, 'gone', 1)
    use(policy, 'first', 1)
    expect(policy.worth('gone', 1)).toBeGreaterThan(policy.worth('first', 1))
    expect(policy.worth('never', 1)).toBe(0)
  })
})
