import { describe, expect, it } from 'vitest'
import { CUT_OFF_AFTER_MS, CUT_OFF_LASTS_MS } from '../limits.ts'
import { CutOffWatch } from './cut-off-watch.ts'

function build() {
  const clock = { nowMs: 100_000 }
  return { clock, watch: new CutOffWatch(() => clock.nowMs) }
}

describe('CutOffWatch', () => {
  it('calls an edge cut off when others go on to store what hosts tell them', () => {
    const { clock, watch } = build()
    const startMs = clock.nowMs
    const cutMs: number[] = []
    for (; clock.nowMs <= startMs + 10_000; clock.nowMs += 1000) {
      watch.heard(200)
      if (watch.isCutOff(startMs)) cutMs.push(clock.nowMs - startMs)
    }
    expect(cutMs[0]).toBeLessThanOrEqual(CUT_OFF_AFTER_MS + CUT_OFF_LASTS_MS + 1000)
    expect(cutMs.at(-1)).toBe(10_000)
  })

  it('calls none so while nobody reaches the database, however late heartbeats arrive', () => {
    const { clock, watch } = build()
    const startMs = clock.nowMs
    // Stored as the database went, and told with delays of up to three seconds.
    for (let sentMs = 100; sentMs < 60_000; sentMs += 1000) {
      clock.nowMs = startMs + sentMs + (sentMs % 3000)
      watch.heard(sentMs)
      expect(watch.isCutOff(startMs)).toBe(false)
    }
  })

  it('forgets nothing that matters of a long outage, and nothing of one before counts', () => {
    const { clock, watch } = build()
    const startMs = clock.nowMs
    for (let i = 0; i < 3600; i++) {
      clock.nowMs += 1000
      watch.heard(0)
    }
    expect(watch.isCutOff(startMs)).toBe(true)
    expect(watch.isCutOff(clock.nowMs)).toBe(false)
  })
})
