import { expect, it } from 'vitest'
import { TtlCache } from './ttl-cache.ts'

it('forgets by age, by count and by wish', () => {
  let nowMs = 0
  const cache = new TtlCache<number>({ ttlMs: 10, entriesMax: 2, nowMs: () => nowMs })
  cache.set('a', 1)
  nowMs = 9
  expect(cache.get('a')).toBe(1)
  nowMs = 10
  expect(cache.get('a')).toBeUndefined()
  cache.set('a', 1)
  cache.set('b', 2)
  cache.set('a', 3)
  cache.set('c', 4)
  expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([3, undefined, 4])
  cache.deleteWhere((value) => value === 3)
  cache.delete('c')
  expect([cache.get('a'), cache.get('c')]).toEqual([undefined, undefined])
})
