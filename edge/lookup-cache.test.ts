import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DatabaseError } from '#db/errors.ts'
import {
  ASK_WAIT_MS_MAX,
  LOOKUP_MS_MAX,
  LOOKUP_WAIT_MS,
  OUTAGE_GRACE_MS,
  OUTAGE_RETRY_MS,
  OUTAGE_SEEN_MS_MAX,
} from './limits.ts'
import { LookupCache } from './lookup-cache.ts'

const TTL_MS = 5000
beforeEach(() => {
  vi.useFakeTimers({ now: 0 })
})
afterEach(() => {
  vi.useRealTimers()
})

const away = () => Promise.reject(new DatabaseError('database_unavailable', 'away'))
const never = () => new Promise<never>(() => {})
const say = (value: string | null) => () => Promise.resolve(value)
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

function create(options: { downForMs?: () => number | null; entriesMax?: number } = {}) {
  const { downForMs = () => null, ...rest } = options
  return new LookupCache<string>({ ttlMs: TTL_MS, nowMs: Date.now, downForMs, ...rest })
}

describe('LookupCache while the database answers', () => {
  it('believes an answer for its time, and no longer', async () => {
    const cache = create()
    expect(await cache.find('k', say('a'))).toEqual({ value: 'a', from: 'database' })
    await pass(TTL_MS - 1)
    expect(await cache.find('k', say('b'))).toEqual({ value: 'a', from: 'cache' })
    await pass(1)
    expect(await cache.find('k', say('b'))).toEqual({ value: 'b', from: 'database' })
  })

  it('remembers no absence, and forgets what is gone', async () => {
    const cache = create()
    expect(await cache.find('k', say(null))).toBeNull()
    expect(await cache.find('k', say('a'))).toMatchObject({ value: 'a' })
    await pass(TTL_MS)
    expect(await cache.find('k', say(null))).toBeNull()
    await expect(cache.find('k', away)).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  it('holds a bounded number of entries', async () => {
    const cache = create({ entriesMax: 2 })
    for (const key of ['a', 'b', 'a2', 'c']) await cache.find(key, say(key))
    expect(await cache.find('c', say('new'))).toMatchObject({ from: 'cache' })
    expect(await cache.find('a', say('new'))).toMatchObject({ from: 'database' })
  })

  it('asks once for many who want the same at once', async () => {
    const cache = create()
    let asked = 0
    const look = async () => {
      asked += 1
      await new Promise((resolve) => setTimeout(resolve, 300))
      return 'a'
    }
    const crowd = Promise.all(Array.from({ length: 250 }, () => cache.find('k', look)))
    await pass(1000)
    expect((await crowd).map((found) => found?.value)).toEqual(Array(250).fill('a'))
    expect(asked).toBe(1)
  })

  it('does not wait for an asker that vanished, nor for what it was not told', async () => {
    const cache = create()
    void cache.find('k', never).catch(() => {})
    const second = cache.find('k', say('a'))
    await pass(2 * ASK_WAIT_MS_MAX)
    expect(await second).toEqual({ value: 'a', from: 'database' })
    const changing = cache.find('n', async () => {
      cache.delete('n')
      return 'old'
    })
    expect(await changing).toMatchObject({ value: 'old' })
    expect(await cache.find('n', say('new'))).toEqual({ value: 'new', from: 'database' })
  })

  it('passes on what is no outage', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS)
    const failing = cache.find('k', () => Promise.reject(new RangeError('a mistake')))
    await expect(failing).rejects.toThrow('a mistake')
  })

  it('keeps nothing that was asked before this edge changed it', async () => {
    const cache = create()
    let answer = (_: string) => {}
    const asked = cache.find('k', () => new Promise<string>((resolve) => (answer = resolve)))
    cache.delete('k')
    answer('revoked a moment ago')
    await asked
    await expect(cache.find('k', away)).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  it('lets no late answer take the place of a newer one', async () => {
    const cache = create()
    let answer = (_: string) => {}
    const early = cache.find('k', () => new Promise<string>((resolve) => (answer = resolve)))
    await pass(ASK_WAIT_MS_MAX)
    await cache.find('k', say('newer'))
    answer('older')
    await early
    expect(await cache.find('k', say('?'))).toEqual({ value: 'newer', from: 'cache' })
  })
})

describe('LookupCache beside requests', () => {
  it('looks again half-way, once for all, and nobody waits', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    const beside: Promise<void>[] = []
    const keepAlive = (work: Promise<void>): void => void beside.push(work)
    let answer = (_: string) => {}
    const look = () => new Promise<string>((resolve) => (answer = resolve))
    await pass(TTL_MS / 2 - 1)
    expect(await cache.find('k', look, keepAlive)).toEqual({ value: 'a', from: 'cache' })
    expect(beside).toEqual([])
    await pass(1)
    for (const _ of Array(3)) {
      expect(await cache.find('k', look, keepAlive)).toEqual({ value: 'a', from: 'cache' })
    }
    expect(beside.length).toBe(1)
    answer('b')
    await Promise.all(beside)
    await pass(TTL_MS - 1)
    expect(await cache.find('k', never)).toEqual({ value: 'b', from: 'cache' })
  })

  it('believes the old value no longer for that', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS / 2)
    let beside: Promise<void> | null = null
    const mistaken = () => Promise.reject(new RangeError('a mistake'))
    await cache.find('k', mistaken, (work) => {
      beside = work
    })
    await beside
    await pass(TTL_MS / 2 - 1)
    expect(await cache.find('k', say('b'))).toEqual({ value: 'a', from: 'cache' })
    await pass(1)
    expect(await cache.find('k', say('b'))).toEqual({ value: 'b', from: 'database' })
  })

  it('forgets what is gone', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS / 2)
    await cache.find('k', say(null), () => {})
    await pass(0)
    expect(await cache.find('k', say(null))).toBeNull()
  })

  it('finds out that the database hangs before anybody has to wait for it', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    let beside = 0
    const keepAlive = (): void => void beside++
    for (let ms = 0; ms <= 1.5 * TTL_MS; ms += 100) {
      await pass(100)
      const found = await Promise.race([cache.find('k', never, keepAlive), pass(1)])
      expect(found, `after ${ms} ms`).toMatchObject({ value: 'a' })
    }
    // One a second: no storm.
    expect(beside).toBe(6)
  })
})

describe('LookupCache during an outage', () => {
  it('serves what was seen in the 10 minutes before, for 15 minutes from its start', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(OUTAGE_SEEN_MS_MAX)
    for (let spentMs = 0; spentMs < OUTAGE_GRACE_MS; spentMs += OUTAGE_GRACE_MS / 10) {
      expect(await cache.find('k', away)).toEqual({ value: 'a', from: 'stale' })
      await pass(OUTAGE_GRACE_MS / 10)
    }
    await expect(cache.find('k', away)).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(await cache.find('k', say('b'))).toEqual({ value: 'b', from: 'database' })
  })

  it('does not serve what was seen earlier, nor what was never seen', async () => {
    const cache = create()
    await cache.find('old', say('a'))
    await pass(OUTAGE_SEEN_MS_MAX + 1)
    await expect(cache.find('old', away)).rejects.toMatchObject({ code: 'database_unavailable' })
    await expect(cache.find('new', away)).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  it('counts from when anything noticed, not from the first look-up', async () => {
    let downSinceMs = Number.POSITIVE_INFINITY
    const downForMs = () => (Date.now() < downSinceMs ? null : Date.now() - downSinceMs)
    const cache = create({ downForMs })
    await cache.find('k', say('a'))
    downSinceMs = 1000
    await pass(1000 + OUTAGE_GRACE_MS - 1)
    expect(await cache.find('k', away)).toMatchObject({ from: 'stale' })
    await pass(1)
    await expect(cache.find('k', away)).rejects.toMatchObject({ code: 'database_unavailable' })
  })

  it('starts over when the database answered in between', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS)
    await cache.find('k', away)
    await pass(OUTAGE_GRACE_MS - TTL_MS)
    await cache.find('k', say('a'))
    await pass(TTL_MS)
    await cache.find('k', away)
    await pass(OUTAGE_GRACE_MS - TTL_MS)
    expect(await cache.find('k', away)).toMatchObject({ value: 'a', from: 'stale' })
  })

  it('waits a second for a hanging database, and then not again at once', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS)
    const waiting = cache.find('k', never)
    await pass(LOOKUP_WAIT_MS - 1)
    expect(await Promise.race([waiting, Promise.resolve('waits')])).toBe('waits')
    await pass(1)
    expect(await waiting).toEqual({ value: 'a', from: 'stale' })
    expect(await cache.find('k', say('b'))).toEqual({ value: 'a', from: 'stale' })
    await pass(OUTAGE_RETRY_MS)
    expect(await cache.find('k', say('b'))).toEqual({ value: 'b', from: 'database' })
  })

  it('gives up on something unknown after a few seconds', async () => {
    const cache = create()
    const waiting = expect(cache.find('k', never)).rejects.toMatchObject({
      code: 'database_unavailable',
      status: 503,
    })
    await pass(LOOKUP_MS_MAX)
    await waiting
  })

  it('takes an answer that came after its time', async () => {
    const cache = create()
    await cache.find('k', say('a'))
    await pass(TTL_MS)
    let answer = (_: string) => {}
    const waiting = cache.find('k', () => new Promise<string>((resolve) => (answer = resolve)))
    await pass(LOOKUP_WAIT_MS)
    expect(await waiting).toMatchObject({ from: 'stale' })
    answer('b')
    await pass(0)
    expect(await cache.find('k', never)).toEqual({ value: 'b', from: 'cache' })
  })
})
