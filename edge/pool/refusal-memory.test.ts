import { expect, it } from 'vitest'
import { EdgeError } from '../errors.ts'
import { HOST_REFUSAL_KEPT_MS } from '../limits.ts'
import { RefusalMemory } from './refusal-memory.ts'

const busy = (retryAfterMs: number) => new EdgeError('overloaded', 'busy', { retryAfterMs })

it("remembers a host's refusal for a moment, and for its tenant alone", () => {
  let nowMs = 0
  const memory = new RefusalMemory(() => nowMs)
  memory.remember('a', 'ten_1', busy(60_000))
  expect(memory.recall('a', 'ten_1')?.retryAfterMs).toBe(60_000)
  expect(memory.recall('a', 'ten_2')).toBeNull()
  expect(memory.recall('b', 'ten_1')).toBeNull()
  nowMs += HOST_REFUSAL_KEPT_MS
  expect(memory.recall('a', 'ten_1')).toBeNull()
})

it('forgets no later than the host said', () => {
  let nowMs = 0
  const memory = new RefusalMemory(() => nowMs)
  memory.remember('a', 'ten_1', busy(20))
  nowMs += 20
  expect(memory.recall('a', 'ten_1')).toBeNull()
})

it('stays small, and drops the oldest first', () => {
  const memory = new RefusalMemory(() => 0)
  for (let i = 0; i <= 10_000; i++) memory.remember('a', `ten_${i}`, busy(1000))
  expect(memory.recall('a', 'ten_0')).toBeNull()
  expect(memory.recall('a', 'ten_1')).not.toBeNull()
  expect(memory.recall('a', 'ten_10000')).not.toBeNull()
})
