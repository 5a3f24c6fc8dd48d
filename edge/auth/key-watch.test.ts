import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { EdgeError } from '../errors.ts'
import { KEY_TTL_MS, KEY_WATCH_MS } from '../limits.ts'
import { KeyWatch } from './key-watch.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

it('ends what runs once its key is revoked, within 30 s, and asks no more then', async () => {
  let isHeld = true
  let asked = 0
  const told: EdgeError[] = []
  const watch = new KeyWatch(
    async () => {
      asked += 1
      return isHeld
    },
    (error) => told.push(error),
  )
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told).toEqual([])
  expect(asked).toBe(60_000 / KEY_WATCH_MS)
  isHeld = false
  await vi.advanceTimersByTimeAsync(KEY_WATCH_MS)
  expect(told.map(({ code }) => code)).toEqual(['invalid_api_key'])
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told).toHaveLength(1)
  watch.end()
  expect(KEY_WATCH_MS + KEY_TTL_MS).toBeLessThanOrEqual(30_000)
})

it('of a request that is over asks nobody', async () => {
  let asked = 0
  const watch = new KeyWatch(
    async () => {
      asked += 1
      return true
    },
    () => {},
  )
  watch.end()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(asked).toBe(0)
})
