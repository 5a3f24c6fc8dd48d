import { describe, expect, it } from 'vitest'
import { FairnessWindow, jainIndex } from './fairness-window.ts'

const SECOND_US = 1e6
const tenant = (tenantId: string, weight = 1) => ({ tenantId, weight })

describe('the fairness of a host', () => {
  it('is Jain’s index', () => {
    expect(jainIndex([5, 5, 5])).toBe(1)
    expect(jainIndex([9, 0, 0])).toBeCloseTo(1 / 3)
    expect(jainIndex([4, 2])).toBeCloseTo(36 / 40)
    expect([jainIndex([]), jainIndex([7]), jainIndex([0, 0])]).toEqual([1, 1, 1])
  })

  it('counts those alone that had to wait, by their weight', () => {
    const window = new FairnessWindow()
    window.served(tenant('a', 3), 300, 0)
    window.served(tenant('b'), 100, 0)
    window.served(tenant('idle'), 1, 0)
    expect(window.index(0, [])).toBe(1)
    for (const tenantId of ['a', 'b']) window.waited(tenant(tenantId), 0)
    expect(window.index(0, [])).toBe(1)
    window.served(tenant('a', 3), 900, 0)
    expect(window.index(0, [])).toBeCloseTo(500 ** 2 / (2 * (400 ** 2 + 100 ** 2)))
  })

  it('sees a tenant that waits and gets nothing', () => {
    const window = new FairnessWindow()
    window.waited(tenant('a'), 0)
    window.served(tenant('a'), 50, 0)
    expect(window.index(0, [{ tenantId: 'starved', waitUs: SECOND_US }])).toBeCloseTo(0.5)
    expect(window.index(0, [{ tenantId: 'just came', waitUs: 5 }])).toBe(1)
  })

  it('forgets what was longer ago than two spans', () => {
    const window = new FairnessWindow()
    for (const tenantId of ['a', 'b']) window.waited(tenant(tenantId), 0)
    window.served(tenant('a'), 50, 0)
    expect(window.index(31 * SECOND_US, [])).toBeCloseTo(0.5)
    expect(window.index(61 * SECOND_US, [])).toBe(1)
  })
})
