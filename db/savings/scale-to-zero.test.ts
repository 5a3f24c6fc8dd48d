import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Run, replayScaleToZero, type SleepingMachine } from './scale-to-zero.ts'

interface Waiting {
  readonly arrivedAt: number
  left: number
}

/** The same machine, lived through tick by tick: what it does follows from its state alone. */
function liveThrough(runs: readonly Run[], machine: SleepingMachine) {
  const used = { coldStarts: 0, upMs: 0, delayedRequests: 0, waitedMs: 0 }
  let startingFor = 0
  let idleFor = 0
  let isUp = false
  let waiting: Waiting[] = []
  const endsAt = Math.max(0, ...runs.map(({ endMs }) => endMs)) + 500
  for (let tick = 0; tick < endsAt; tick += 1) {
    if (isUp && startingFor === 0 && waiting.length === 0 && idleFor > machine.keepWarmMs) {
      isUp = false
    }
    for (const { startMs, endMs } of runs.filter((run) => run.startMs === tick)) {
      if (!isUp) {
        isUp = true
        used.coldStarts += 1
        startingFor = machine.coldStartMs
        idleFor = 0
      }
      if (startingFor > 0) used.delayedRequests += 1
      waiting.push({ arrivedAt: tick, left: endMs - startMs })
    }
    if (!isUp) continue
    if (startingFor > 0) {
      used.waitedMs += waiting.length
      startingFor -= 1
    } else {
      waiting = waiting.filter(({ left }) => left > 0)
      for (const request of waiting) request.left -= 1
      idleFor = waiting.length > 0 ? 0 : idleFor + 1
      if (waiting.length > 0) waiting = waiting.filter(({ left }) => left > 0)
    }
    const isPaid = startingFor > 0 || idleFor <= machine.keepWarmMs
    if (isPaid && tick < machine.untilMs) used.upMs += 1
  }
  return used
}

const arrivals = fc
  .array(fc.record({ startMs: fc.nat(300), lastsMs: fc.integer({ min: 1, max: 30 }) }), {
    maxLength: 12,
  })
  .map((all): Run[] =>
    all
      .sort((a, b) => a.startMs - b.startMs)
      .map(({ startMs, lastsMs }) => ({ startMs, endMs: startMs + lastsMs, requests: 1 })),
  )

describe('replayScaleToZero', () => {
  it('pays, starts and lets wait as the machine itself does, whatever comes when', () => {
    fc.assert(
      fc.property(
        arrivals,
        fc.integer({ min: 1, max: 40 }),
        fc.nat(40),
        fc.constantFrom(1000, 200),
        (runs, coldStartMs, keepWarmMs, untilMs) => {
          const machine = { coldStartMs, keepWarmMs, untilMs }
          expect(replayScaleToZero(runs, machine)).toEqual(liveThrough(runs, machine))
        },
      ),
      { numRuns: 500 },
    )
  })

  it('keeps one machine through a run of many requests', () => {
    const runs = [
      { startMs: 0, endMs: 100, requests: 1 },
      { startMs: 5000, endMs: 900_000, requests: 4000 },
    ]
    const machine = { coldStartMs: 1000, keepWarmMs: 10_000, untilMs: 1e9 }
    expect(replayScaleToZero(runs, machine)).toEqual({
      coldStarts: 1,
      upMs: 910_000,
      delayedRequests: 1,
      waitedMs: 1000,
    })
  })
})
