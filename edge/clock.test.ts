import { beforeEach, describe, expect, it } from 'vitest'
import { PoolClock } from './clock.ts'
import { CLOCK_INTERVAL_MS, CLOCK_RETRY_MS, CLOCK_SAMPLES } from './limits.ts'

const DAY_MS = 86_400_000
/** Real time, and how far the machine's clock and the database are from it. */
let world: { ms: number; wallOffMs: number; trips: [there: number, back: number][]; reads: number }
let logs: { level: string; fields: unknown }[]
beforeEach(() => {
  world = { ms: Date.UTC(2026, 10, 1), wallOffMs: 0, trips: [], reads: 0 }
  logs = []
})

function create(readMs?: () => Promise<number>): PoolClock {
  return new PoolClock({
    readMs:
      readMs ??
      (async () => {
        const [there, back] = world.trips[world.reads % Math.max(1, world.trips.length)] ?? [2, 2]
        world.reads += 1
        world.ms += there
        const answer = world.ms
        world.ms += back
        return answer
      }),
    wallMs: () => world.ms + world.wallOffMs,
    monotonicMs: () => world.ms - Date.UTC(2026, 0),
    log: (level, _message, fields) => logs.push({ level, fields }),
  })
}

describe('PoolClock', () => {
  it('is the machine until it has measured', () => {
    world.wallOffMs = -DAY_MS
    const clock = create()
    expect(clock.nowMs()).toBe(world.ms - DAY_MS)
    expect(clock.offsetMs()).toBeNull()
  })

  it.each([DAY_MS, -DAY_MS, 300_000, 0])(
    'tells the time of the database with a clock that is %i ms off',
    async (offMs) => {
      world.wallOffMs = offMs
      const clock = create()
      await clock.keepInStep()
      expect(clock.nowMs()).toBe(world.ms)
      expect(clock.offsetMs()).toBe(0 - offMs)
      world.ms += 10 * DAY_MS
      expect(clock.nowMs()).toBe(world.ms)
    },
  )

  it('is off by half a round trip at most, and not by the one that was held up', async () => {
    world.trips = [
      [1, 1],
      [0, 900],
      [900, 0],
      [4, 0],
      [1, 2],
    ]
    const clock = create()
    await clock.keepInStep()
    expect(Math.abs(clock.nowMs() - world.ms)).toBeLessThanOrEqual(2)
  })

  it('measures once in its interval, and at once after the clock was set', async () => {
    const clock = create()
    await clock.keepInStep()
    world.ms += CLOCK_INTERVAL_MS - 1
    await clock.keepInStep()
    expect(world.reads).toBe(CLOCK_SAMPLES)
    world.ms += 100
    await clock.keepInStep()
    expect(world.reads).toBe(2 * CLOCK_SAMPLES)
    world.wallOffMs = DAY_MS
    await clock.keepInStep()
    expect(world.reads).toBe(3 * CLOCK_SAMPLES)
    expect(clock.nowMs()).toBe(world.ms)
    await clock.keepInStep()
    expect(world.reads).toBe(3 * CLOCK_SAMPLES)
  })

  it('goes on with the last offset while the database is away, and tries again', async () => {
    let isAway = false
    const clock = create(async () => {
      world.reads += 1
      if (isAway) throw new Error('away')
      return world.ms
    })
    await clock.keepInStep()
    isAway = true
    world.wallOffMs = -DAY_MS
    world.ms += CLOCK_INTERVAL_MS
    await clock.keepInStep()
    expect(clock.nowMs()).toBe(world.ms)
    expect(logs).toMatchObject([{ level: 'warn' }])
    await clock.keepInStep()
    expect(world.reads).toBe(CLOCK_SAMPLES + 1)
    world.ms += CLOCK_RETRY_MS
    await clock.keepInStep()
    expect(world.reads).toBe(CLOCK_SAMPLES + 2)
  })

  it('reports a wrong clock once, and once that it is right again', async () => {
    world.wallOffMs = 3000
    const clock = create()
    await clock.keepInStep()
    world.ms += CLOCK_INTERVAL_MS
    await clock.keepInStep()
    expect(logs).toEqual([
      { level: 'error', fields: expect.objectContaining({ offset_ms: -3000, error_ms: 2 }) },
    ])
    world.wallOffMs = 0
    await clock.keepInStep()
    expect(logs.slice(1)).toMatchObject([{ level: 'info' }])
  })
})
