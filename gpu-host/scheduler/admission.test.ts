import { describe, expect, it } from 'vitest'
import { Admission } from './admission.ts'

interface Waiting {
  readonly name: string
  readonly tenantId: string
  readonly costTokens: number
}
const request = (name: string, tenantId: string, costTokens = 10): Waiting => ({
  name,
  tenantId,
  costTokens,
})
const always = (): boolean => true
const LIMITS = { queueDepthMax: 6, queueDepthTenantMax: 4 }

function names(admission: Admission<Waiting>, count = 10): string[] {
  return admission.fairOrder(always, count).map(({ name }) => name)
}

describe('Admission', () => {
  it('takes turns between tenants by tokens, not by requests', () => {
    const admission = new Admission<Waiting>(LIMITS)
    for (const name of ['a1', 'a2', 'a3', 'a4']) admission.push(request(name, 'a', 30))
    for (const name of ['b1', 'b2']) admission.push(request(name, 'b', 10))
    expect(names(admission)).toEqual(['a1', 'b1', 'b2', 'a2', 'a3', 'a4'])
  })

  it('puts a tenant that used more tokens behind one that used fewer', () => {
    const admission = new Admission<Waiting>(LIMITS)
    admission.push(request('a1', 'a'))
    admission.push(request('b1', 'b'))
    admission.charge('a', 1000)
    expect(names(admission)).toEqual(['b1', 'a1'])
  })

  it('earns no credit for idle time', () => {
    const admission = new Admission<Waiting>(LIMITS)
    const first = request('a1', 'a')
    admission.push(first)
    admission.start(first)
    admission.charge('a', 5000)
    admission.push(request('a2', 'a', 10))
    admission.push(request('b1', 'b', 10))
    admission.push(request('b2', 'b', 10))
    // b joins at a's level instead of 5000 tokens ahead of it.
    expect(names(admission)).toEqual(['a2', 'b1', 'b2'])
  })

  it('does not forgive a tenant that leaves for a moment what it used', () => {
    const admission = new Admission<Waiting>(LIMITS)
    const a = request('a1', 'a')
    const b = request('b1', 'b')
    admission.push(a)
    admission.push(b)
    admission.start(a)
    admission.start(b)
    admission.charge('a', 500)
    admission.end(a, 10)
    admission.push(request('a2', 'a'))
    admission.push(request('b2', 'b'))
    expect(names(admission)).toEqual(['b2', 'a2'])
  })

  it('keeps the order of requests within a tenant, skipping those that are not ready', () => {
    const admission = new Admission<Waiting>(LIMITS)
    for (const name of ['a1', 'a2', 'a3']) admission.push(request(name, 'a'))
    const ready = admission.fairOrder(({ name }) => name !== 'a1', 10)
    expect(ready.map(({ name }) => name)).toEqual(['a2', 'a3'])
  })

  it('refuses a tenant at its own bound while others still get in', () => {
    const admission = new Admission<Waiting>(LIMITS)
    for (const name of ['a1', 'a2', 'a3', 'a4']) admission.push(request(name, 'a'))
    expect(() => admission.assertRoom('a', 4, 1)).toThrowError(
      expect.objectContaining({ code: 'queue_full', retryAfterMs: expect.any(Number) }),
    )
    admission.assertRoom('b', 4, 1)
  })

  it('takes all places of a request or none, and any number on an empty queue', () => {
    const admission = new Admission<Waiting>(LIMITS)
    admission.assertRoom('a', 4, 16)
    for (const name of ['a1', 'a2']) admission.push(request(name, 'a'))
    admission.assertRoom('a', 4, 2)
    expect(() => admission.assertRoom('a', 4, 3)).toThrowError(
      expect.objectContaining({ code: 'queue_full' }),
    )
  })

  it('asks to come back later the longer the queue is', () => {
    const retryAfter = (sequenceCount: number): number => {
      const admission = new Admission<Waiting>({ queueDepthMax: 4, queueDepthTenantMax: 4 })
      for (const name of ['a1', 'a2', 'a3', 'a4']) admission.push(request(name, 'a'))
      try {
        admission.assertRoom('b', sequenceCount, 1)
      } catch (error) {
        return (error as { retryAfterMs: number }).retryAfterMs
      }
      return 0
    }
    expect(retryAfter(1)).toBeGreaterThan(retryAfter(4))
  })
})
