import { describe, expect, it } from 'vitest'
import { Admission } from './admission.ts'

interface Waiting {
  readonly name: string
  readonly tenantId: string
  readonly weight: number
  readonly costTokens: number
}
const request = (name: string, tenantId: string, costTokens = 10, weight = 1): Waiting => ({
  name,
  tenantId,
  weight,
  costTokens,
})
const always = (): boolean => true
const LIMITS = { queueDepthMax: 6, queueDepthTenantMax: 4 }
const WIDE = { queueDepthMax: 1000, queueDepthTenantMax: 1000 }

function names(admission: Admission<Waiting>, count = 10): string[] {
  return admission.fairOrder(always, count).map(({ name }) => name)
}

function started(admission: Admission<Waiting>, waiting: Waiting): Waiting {
  admission.push(waiting)
  admission.start(waiting)
  return waiting
}

describe('Admission', () => {
  it('takes turns between tenants by tokens, not by requests', () => {
    const admission = new Admission<Waiting>(LIMITS)
    for (const name of ['a1', 'a2', 'a3', 'a4']) admission.push(request(name, 'a', 30))
    for (const name of ['b1', 'b2']) admission.push(request(name, 'b', 10))
    expect(names(admission)).toEqual(['a1', 'b1', 'b2', 'a2', 'a3', 'a4'])
  })

  it('gives a tenant of weight 3 three times the tokens', () => {
    const admission = new Admission<Waiting>(WIDE)
    for (let i = 0; i < 40; i++) {
      admission.push(request(`a${i}`, 'a'))
      admission.push(request(`b${i}`, 'b', 10, 3))
    }
    const first = admission.fairOrder(always, 40)
    expect(first.filter(({ tenantId }) => tenantId === 'b')).toHaveLength(30)
  })

  it('puts a tenant that used more tokens behind one that used fewer', () => {
    const admission = new Admission<Waiting>(LIMITS)
    admission.charge(started(admission, request('a1', 'a')), 1000)
    admission.push(request('a2', 'a'))
    admission.push(request('b1', 'b'))
    expect(names(admission)).toEqual(['b1', 'a2'])
  })

  it('charges a start at once, and gives back what it did not use', () => {
    const admission = new Admission<Waiting>(LIMITS)
    const a = started(admission, request('a1', 'a', 100))
    for (const name of ['a2', 'a3']) admission.push(request(name, 'a'))
    admission.push(request('b1', 'b'))
    started(admission, request('b0', 'b', 40))
    expect(names(admission)[0]).toBe('b1')
    admission.charge(a, 20)
    expect(names(admission)[0]).toBe('b1')
    admission.end(a)
    // 20 of a against 40 of b.
    expect(names(admission)).toEqual(['a2', 'a3', 'b1'])
  })

  it('earns no credit for idle time', () => {
    const admission = new Admission<Waiting>(LIMITS)
    const flood = started(admission, request('a1', 'a'))
    admission.charge(flood, 5000)
    started(admission, request('a2', 'a', 10))
    for (const name of ['a3', 'a4']) admission.push(request(name, 'a', 10))
    for (const name of ['b1', 'b2']) admission.push(request(name, 'b', 10))
    // b joins at the level at which a started last, instead of 5000 tokens ahead of it.
    expect(names(admission)).toEqual(['b1', 'b2', 'a3', 'a4'])
  })

  it('lets no tenant save up by running a little all the time', () => {
    const admission = new Admission<Waiting>(WIDE)
    // It never ends, so its tenant is never idle.
    started(admission, request('tiny', 'c', 1))
    for (let i = 0; i < 100; i++) {
      admission.end(started(admission, request(`a${i}`, 'a', 1)))
      admission.charge(started(admission, request(`long${i}`, 'a', 100)), 100)
    }
    for (let i = 0; i < 5; i++) admission.push(request(`a-${i}`, 'a', 100))
    for (let i = 0; i < 5; i++) admission.push(request(`c-${i}`, 'c', 100))
    const tenants = admission.fairOrder(always, 10).map(({ tenantId }) => tenantId)
    expect(tenants.slice(0, 4).filter((tenantId) => tenantId === 'a').length).toBeGreaterThan(0)
    const newcomer = request('n', 'n', 100)
    admission.push(newcomer)
    expect(admission.fairOrder(always, 3)).toContain(newcomer)
  })

  it('does not forgive a tenant that leaves for a moment what it used', () => {
    const admission = new Admission<Waiting>(LIMITS)
    const a = started(admission, request('a1', 'a'))
    started(admission, request('b1', 'b'))
    admission.charge(a, 500)
    admission.end(a)
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
    for (const name of ['a1', 'a2', 'a3']) admission.push(request(name, 'a'))
    expect(() => admission.assertRoom('a', 1, 700)).toThrowError(
      expect.objectContaining({ code: 'queue_full', retryAfterMs: 700 }),
    )
    admission.assertRoom('b', 1, 0)
  })

  it('takes all places of a request or none, and any number on an empty queue', () => {
    const admission = new Admission<Waiting>(LIMITS)
    admission.assertRoom('a', 16, 0)
    admission.push(request('a1', 'a'))
    admission.assertRoom('a', 3, 0)
    expect(() => admission.assertRoom('a', 4, 0)).toThrowError(
      expect.objectContaining({ code: 'queue_full' }),
    )
  })

  it('names what would start before a request that came now', () => {
    const admission = new Admission<Waiting>(WIDE)
    admission.charge(started(admission, request('a0', 'a')), 50)
    for (const name of ['a1', 'a2', 'a3']) admission.push(request(name, 'a'))
    admission.push(request('b1', 'b', 30))
    const ahead = (tenantId: string): string[] =>
      admission.ahead(tenantId, 1).map(({ name }) => name)
    // Where b has waited for its turn, it is taken to wait again.
    expect(ahead('a')).toEqual(['b1', 'b1', 'a1', 'b1', 'a2', 'a3'])
    expect(ahead('b')).toEqual(['b1'])
    expect(ahead('new')).toEqual([])
    admission.push(request('new', 'new'))
    expect(names(admission).slice(0, 2)).toContain('new')
  })

  it('keeps sequences for tenants that run little, as many as they ran of late and two more', () => {
    const admission = new Admission<Waiting>(WIDE)
    const reserved = (tenantId: string): number => admission.reservedFrom(tenantId, 1, 16)
    for (let i = 0; i < 7; i++) started(admission, request(`a${i}`, 'a'))
    // 7 < 16 ÷ (1 + 1): so far it takes what it would have beside another.
    expect(reserved('a')).toBe(0)
    started(admission, request('a7', 'a'))
    // An eighth, where nobody else was seen.
    expect(reserved('a')).toBe(2)
    expect(reserved('b')).toBe(0)
    expect(admission.reservedFrom('a', 1, 7)).toBe(0)
    const running = [0, 1, 2].map((i) => started(admission, request(`b-${i}`, 'b')))
    // 3 and 2 more, of which it runs 3.
    expect(reserved('a')).toBe(2)
    for (const each of running) admission.end(each)
    expect(reserved('a')).toBe(5)
    const many = [0, 1, 2, 3, 4].map((i) => started(admission, request(`c-${i}`, 'c')))
    for (const each of many) admission.end(each)
    // 5 and 2: never more than three eighths.
    expect(reserved('a')).toBe(6)
    // Nor for ever.
    for (let i = 0; i < 700; i++) admission.end(started(admission, request(`d${i}`, 'a')))
    expect(reserved('a')).toBe(3)
  })

  it('counts what starts along with a request', () => {
    const admission = new Admission<Waiting>(WIDE)
    for (let i = 0; i < 4; i++) started(admission, request(`b-${i}`, 'b'))
    started(admission, request('a0', 'a'))
    const along = [request('b0', 'b'), request('b1', 'b')]
    // With the two that start now b has 6 of 16 ÷ 3.
    expect(admission.reservedFrom('b', 1, 16)).toBe(0)
    expect(admission.reservedFrom('b', 1, 16, along)).toBe(2)
  })

  it('says who runs beyond its share', () => {
    const admission = new Admission<Waiting>(WIDE)
    const isBeyond = (tenantId: string) => admission.beyondShare(16).has(tenantId)
    for (let i = 0; i < 8; i++) started(admission, request(`a${i}`, 'a'))
    expect(isBeyond('a')).toBe(false)
    started(admission, request('a8', 'a'))
    expect(isBeyond('a')).toBe(true)
    // Among sixteen tenants one sequence is nobody's excess, though 16 ÷ 17 < 1.
    const many = new Admission<Waiting>(WIDE)
    for (let i = 0; i < 16; i++) started(many, request(`r${i}`, `t${i}`))
    expect(many.beyondShare(16).has('t3')).toBe(false)
  })
})
