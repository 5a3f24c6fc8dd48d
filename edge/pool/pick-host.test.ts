import { describe, expect, it } from 'vitest'
import { type AdapterTier, type HostState, pickHosts } from './pick-host.ts'

const DIGEST = `sha256:${'1'.repeat(64)}`

function host(hostId: string, change: Partial<HostState> & { tier?: AdapterTier } = {}): HostState {
  const { tier, ...rest } = change
  return {
    hostId,
    url: `http://${hostId}`,
    baseModel: 'base',
    contextLength: 512,
    sequences: 0,
    sequencesMax: 16,
    waitMs: 0,
    weight: 1,
    isSuspect: false,
    tierOf: (digest) => (digest === DIGEST ? (tier ?? null) : null),
    ...rest,
  }
}

const idsOf = (hosts: readonly HostState[]) => hosts.map(({ hostId }) => hostId)
const wish = { baseModel: 'base', digest: DIGEST, tenantId: 'ten_1', demand: 0 }

describe('pickHosts', () => {
  it('asks only hosts that serve the base model', () => {
    expect(pickHosts([host('a', { baseModel: 'other' })], wish)).toEqual([])
    expect(idsOf(pickHosts([host('a', { baseModel: 'other' }), host('b')], wish))).toEqual(['b'])
  })

  it('prefers the nearest tier', () => {
    const hosts = [host('a'), host('b', { tier: 'disk' }), host('c', { tier: 'slot' })]
    hosts.push(host('d', { tier: 'ram' }))
    expect(idsOf(pickHosts(hosts, wish))).toEqual(['c', 'd', 'b', 'a'])
  })

  it('leaves a resident host that is far above the average load', () => {
    const busy = host('busy', { tier: 'slot', sequences: 14 })
    const hosts = [busy, host('a', { sequences: 1 }), host('b', { sequences: 1 })]
    expect(idsOf(pickHosts(hosts, wish)).at(-1)).toBe('busy')
    const level = hosts.map((each) => ({ ...each, sequences: 8 }))
    expect(idsOf(pickHosts(level, wish))[0]).toBe('busy')
  })

  it('stays with a resident host on an idle pool', () => {
    const hosts = [host('a', { tier: 'slot' }), host('b'), host('c')]
    expect(idsOf(pickHosts(hosts, wish))[0]).toBe('a')
  })

  it('asks a host in doubt last, and asks it nevertheless', () => {
    const hosts = [host('a', { tier: 'slot', isSuspect: true }), host('b')]
    expect(idsOf(pickHosts(hosts, wish))).toEqual(['b', 'a'])
  })

  it('orders alike whatever the order of the list, and moves few adapters when a host joins', () => {
    const hosts = Array.from({ length: 8 }, (_, i) => host(`hst_${i}`))
    const digests = Array.from(
      { length: 2000 },
      (_, i) => `sha256:${i.toString(16).padStart(64, '0')}`,
    )
    const choose = (list: readonly HostState[], digest: string) =>
      idsOf(pickHosts(list, { ...wish, digest }))[0] ?? ''
    const before = digests.map((digest) => choose(hosts, digest))
    expect(digests.map((digest) => choose(hosts.toReversed(), digest))).toEqual(before)
    const counts = hosts.map(({ hostId }) => before.filter((id) => id === hostId).length)
    for (const count of counts) expect(count).toBeGreaterThan(150)
    const after = digests.map((digest) => choose([...hosts, host('hst_8')], digest))
    const moved = after.filter((id, i) => id !== before[i])
    expect(new Set(moved)).toEqual(new Set(['hst_8']))
    expect(moved.length).toBeLessThan(2000 / 6)
  })

  it('spreads the base model by load', () => {
    const hosts = [host('a', { sequences: 3 }), host('b', { sequences: 1 }), host('c')]
    expect(idsOf(pickHosts(hosts, { ...wish, digest: null }))).toEqual(['c', 'b', 'a'])
  })
})
