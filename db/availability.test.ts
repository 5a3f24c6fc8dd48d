import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Availability } from './availability.ts'
import { DatabaseError, isOutage } from './errors.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const never = () => new Promise<never>(() => {})
const refused = () =>
  Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))

function answerWith(state: string): () => Promise<never> {
  const error = new pg.DatabaseError('no', 2, 'error')
  error.code = state
  return () => Promise.reject(error)
}

/** `probe.is` is what the next probe meets. */
function create(options: { canHang?: boolean } = {}) {
  const probe = { is: (): Promise<unknown> => Promise.resolve(), count: 0 }
  const changes: boolean[] = []
  const availability = new Availability({
    probe: () => {
      probe.count += 1
      return probe.is()
    },
    nowMs: Date.now,
    ...options,
  })
  availability.listen((isUp) => changes.push(isUp))
  return { availability, probe, changes }
}

const outcomeOf = (promise: Promise<unknown>) =>
  promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )

/** Lets a probe that was begun end. */
const turn = () => vi.advanceTimersByTimeAsync(0)

describe('Availability', () => {
  it('passes answers and refusals on, and asks nothing more', async () => {
    const { availability, probe, changes } = create()
    expect(await availability.run(() => Promise.resolve(7))).toBe(7)
    for (const state of ['23505', '42P01', '22003']) {
      const { error } = (await outcomeOf(availability.run(answerWith(state)))) as { error: unknown }
      expect(error).toMatchObject({ code: state })
      expect(isOutage(error)).toBe(false)
    }
    await expect(availability.run(() => Promise.reject(new TypeError('ours')))).rejects.toThrow(
      TypeError,
    )
    expect({ probes: probe.count, changes }).toEqual({ probes: 0, changes: [] })
  })

  it('does not call a database away because one connection broke', async () => {
    const { availability, probe } = create()
    const broken = availability.run(refused)
    await expect(broken).rejects.toMatchObject({ code: 'database_unavailable' })
    await turn()
    expect(probe.count).toBe(1)
    expect(availability.downForMs()).toBeNull()
    expect(await availability.run(() => Promise.resolve(1))).toBe(1)
  })

  it('gives up what a hanging database holds within 3 s, and then fails at once', async () => {
    const { availability, probe, changes } = create()
    await availability.run(() => Promise.resolve())
    probe.is = never
    const held = outcomeOf(availability.run(never))
    await vi.advanceTimersByTimeAsync(3000)
    expect(await held).toMatchObject({ error: { code: 'database_unavailable' } })
    let sent = 0
    const send = () => {
      sent += 1
      return Promise.resolve()
    }
    await expect(availability.run(send)).rejects.toThrow(DatabaseError)
    expect({ sent, changes }).toEqual({ sent: 0, changes: [false] })
    // From the probe that found out, not from when it gave up.
    expect(availability.downForMs()).toBe(2000)
  })

  it('lets a slow statement be slow while probes are answered', async () => {
    const { availability, probe } = create()
    const slow = availability.run(
      () => new Promise((resolve) => setTimeout(() => resolve('late'), 20_000)),
    )
    await vi.advanceTimersByTimeAsync(20_000)
    expect(await slow).toBe('late')
    expect(probe.count).toBeGreaterThan(5)
    expect(availability.downForMs()).toBeNull()
  })

  it('comes back within a second of the database, asked once a second', async () => {
    const { availability, probe, changes } = create()
    await availability.run(() => Promise.resolve())
    probe.is = refused
    await outcomeOf(availability.run(refused))
    await turn()
    expect(availability.downForMs()).toBe(0)
    probe.count = 0
    for (let i = 0; i < 500; i++) {
      await outcomeOf(availability.run(() => Promise.resolve()))
      await vi.advanceTimersByTimeAsync(10)
    }
    expect(probe.count).toBeLessThanOrEqual(5)
    expect(availability.downForMs()).toBe(5000)
    probe.is = () => Promise.resolve()
    await vi.advanceTimersByTimeAsync(1000)
    await outcomeOf(availability.run(() => Promise.resolve()))
    await turn()
    expect(await availability.run(() => Promise.resolve('back'))).toBe('back')
    expect(changes).toEqual([false, true])
  })

  it('says for ever when the database never answered', async () => {
    const { availability, probe } = create()
    probe.is = refused
    await outcomeOf(availability.run(refused))
    await turn()
    expect(availability.downForMs()).toBe(Number.POSITIVE_INFINITY)
  })

  it('calls a shutdown, a full disk and too many connections an outage', async () => {
    for (const state of ['57P01', '57P03', '53100', '53300', '08006', '40P01', 'XX000', '57014']) {
      const { availability } = create()
      const outcome = await outcomeOf(availability.run(answerWith(state)))
      expect(isOutage((outcome as { error: unknown }).error), state).toBe(true)
      // What the database said stays visible, for who tries a deadlock again.
      expect(outcome).toMatchObject({ error: { code: state } })
    }
  })

  it('does not take a code of the operating system for an answer', async () => {
    const { availability } = create()
    const error = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })
    const outcome = await outcomeOf(availability.run(() => Promise.reject(error)))
    expect(outcome).toMatchObject({ error: { code: 'database_unavailable', cause: error } })
  })

  it('never calls a database in this process away for being slow', async () => {
    const { availability, probe } = create({ canHang: false })
    const slow = availability.run(
      () => new Promise((resolve) => setTimeout(() => resolve('late'), 60_000)),
    )
    await vi.advanceTimersByTimeAsync(60_000)
    expect(await slow).toBe('late')
    expect(probe.count).toBe(0)
  })
})
