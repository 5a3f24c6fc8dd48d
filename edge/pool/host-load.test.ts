import { describe, expect, it } from 'vitest'
import { HostLoad } from './host-load.ts'

function createLoad() {
  const clock = { nowMs: 1000 }
  const load = new HostLoad({ nowMs: () => clock.nowMs })
  const enter = (hostId: string, count: number): (() => void)[] =>
    Array.from({ length: count }, () => load.enter(hostId))
  return { clock, load, enter }
}

describe('load of a host between heartbeats', () => {
  it('is what this edge has there, until a report comes', () => {
    const { load, enter } = createLoad()
    expect(load.sequencesOf('hst_a')).toBe(0)
    const leaves = enter('hst_a', 3)
    expect(load.sequencesOf('hst_a')).toBe(3)
    for (const leave of leaves) {
      leave()
      leave()
    }
    expect(load.sequencesOf('hst_a')).toBe(0)
  })

  it('follows what this edge sent and got back since the report', () => {
    const { clock, load, enter } = createLoad()
    const [first] = enter('hst_a', 2)
    clock.nowMs = 2000
    load.heard('hst_a', 2, 1900)
    expect(load.sequencesOf('hst_a')).toBe(2)
    enter('hst_a', 4)
    expect(load.sequencesOf('hst_a')).toBe(6)
    first?.()
    expect(load.sequencesOf('hst_a')).toBe(5)
  })

  it('does not add what a report knew, though it came late', () => {
    const { clock, load, enter } = createLoad()
    enter('hst_a', 2)
    clock.nowMs = 1500
    enter('hst_a', 3)
    clock.nowMs = 2500
    // Made after the three had come.
    load.heard('hst_a', 5, 1600)
    expect(load.sequencesOf('hst_a')).toBe(5)
    // Made before: they come on top.
    load.heard('hst_a', 2, 1400)
    expect(load.sequencesOf('hst_a')).toBe(5)
  })

  it('takes other edges to send what this one sends, as far as reports bear it out', () => {
    const { clock, load, enter } = createLoad()
    enter('hst_a', 5)
    clock.nowMs = 2000
    // Half of what runs is from another edge.
    load.heard('hst_a', 10, 2000)
    enter('hst_a', 2)
    expect(load.sequencesOf('hst_a')).toBe(14)
  })

  it('never makes a host less busy than this edge keeps it, nor guesses beyond a bound', () => {
    const { clock, load, enter } = createLoad()
    const leaves = enter('hst_a', 6)
    clock.nowMs = 2000
    load.heard('hst_a', 1000, 2000)
    enter('hst_a', 1)
    expect(load.sequencesOf('hst_a')).toBe(1008)
    load.heard('hst_a', 0, 2000)
    for (const leave of leaves) leave()
    expect(load.sequencesOf('hst_a')).toBe(1)
  })

  it('keeps a bounded past, in which the oldest that counts is not lost', () => {
    const { clock, load, enter } = createLoad()
    enter('hst_a', 1)
    for (let i = 0; i < 1000; i++) {
      clock.nowMs += 100
      load.enter('hst_a')()
    }
    load.heard('hst_a', 1, clock.nowMs - 2900)
    expect(load.sequencesOf('hst_a')).toBe(1)
  })

  it('forgets a host, but not what is on its way there', () => {
    const { load, enter } = createLoad()
    load.heard('hst_a', 7, 1000)
    const [leave] = enter('hst_a', 1)
    load.forget('hst_a')
    expect(load.sequencesOf('hst_a')).toBe(1)
    leave?.()
    load.forget('hst_a')
    expect(load.sequencesOf('hst_a')).toBe(0)
  })
})
