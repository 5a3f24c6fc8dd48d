import { describe, expect, it } from 'vitest'
import { checkIdentity } from '../test/support/identity-world.ts'
import { type KvOwner, kvIdentity, kvSalt } from './kv-identity.ts'
import { findBreach, toOwner } from './row-guard.ts'

const owner: KvOwner = {
  tenantId: 'ten_a',
  baseDigest: 'sha256:base',
  adapter: { digest: 'sha256:1', content: 'c1' },
}
const others: [string, KvOwner][] = [
  ['another tenant', { ...owner, tenantId: 'ten_b' }],
  ['another base', { ...owner, baseDigest: 'sha256:other' }],
  ['the base alone', { ...owner, adapter: null }],
  ['another adapter', { ...owner, adapter: { digest: 'sha256:2', content: 'c1' } }],
  ['the same files, converted anew', { ...owner, adapter: { digest: 'sha256:1', content: 'c2' } }],
  ['parts that are cut elsewhere', { ...owner, tenantId: 'ten_a","sha256:base' }],
  ['a tenant called as the adapter', { ...owner, tenantId: 'sha256:1' }],
]

describe('the identity of filled cells', () => {
  it.each(others)('is not that of %s', (_, other) => {
    expect(kvIdentity(other)).not.toBe(kvIdentity(owner))
    expect(kvSalt(other)).not.toBe(kvSalt(owner))
  })

  it('is the same for equal parts, and its salt is hex', () => {
    expect(kvIdentity(structuredClone(owner))).toBe(kvIdentity(owner))
    expect(kvSalt(owner)).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('rows are kept out of a step', () => {
  const base = 'sha256:base'
  const lease = { digest: 'sha256:1', content: 'c1', isCurrent: () => true }
  const sequence = { tenantId: 'ten_a', digest: 'sha256:1', lease }
  const own = kvIdentity(owner)

  it('of nobody whose slot and cells are its own', () => {
    expect(findBreach(sequence, base, own)).toBeNull()
    const bare = { tenantId: 'ten_a', digest: null, lease: null }
    expect(findBreach(bare, base, kvIdentity(toOwner(bare, base)))).toBeNull()
  })

  it('where the adapter is in no slot: the base does not answer for it', () => {
    const without = { ...sequence, lease: null }
    expect(findBreach(without, base, own)).toContain('no slot')
    expect(() => toOwner(without, base)).toThrow('without its adapter')
  })

  it('where the slot is of another adapter, or was loaded anew', () => {
    const other = { ...sequence, lease: { ...lease, digest: 'sha256:2' } }
    expect(findBreach(other, base, own)).toContain('another adapter')
    const stale = { ...sequence, lease: { ...lease, isCurrent: () => false } }
    expect(findBreach(stale, base, own)).toContain('loaded anew')
    expect(findBreach({ ...sequence, digest: null }, base, own)).toContain('has an adapter')
  })

  it.each(others)('where the cells are of %s', (_, other) => {
    expect(findBreach(sequence, base, kvIdentity(other))).toContain('cells')
    expect(findBreach(sequence, base, null)).toContain('cells')
  })
})

describe('by random worlds', () => {
  it('no row runs with another adapter, and none reads a cell that is not its own', () => {
    const { failure, tally } = checkIdentity(20_261_127, 5000)
    expect(failure).toBeNull()
    // Not vacuous.
    for (const [what, count] of Object.entries(tally)) expect(count, what).toBeGreaterThan(500)
  })
})
