import { describe, expect, it } from 'vitest'
import { Random } from '../../native/test/support/random.ts'
import {
  BASE_MODEL,
  createDigest,
  createHostState,
  createPool,
  idsOf,
} from '../test/support/host-states.ts'
import {
  type AdapterTier,
  businessOf,
  type HostState,
  type HostWish,
  pickHosts,
} from './pick-host.ts'

/** From the store, and what the hosts' scores can add. */
const LOAD_PRICE_MAX = 0.33
const DIGEST = createDigest(1)
const wish: HostWish = { baseModel: BASE_MODEL, digest: DIGEST, tenantId: 'ten_1', demand: 0 }
const baseWish = { ...wish, digest: null }

function host(hostId: string, change: Partial<HostState> & { tier?: AdapterTier } = {}): HostState {
  const { tier, ...rest } = change
  return createHostState(hostId, { ...rest, ...(tier && { tiers: { [DIGEST]: tier } }) })
}

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

  it('stays with a resident host until another is so much less busy that a load pays', () => {
    const others = [host('a', { sequences: 1 }), host('b', { sequences: 1 })]
    const pick = (sequences: number) =>
      idsOf(pickHosts([host('busy', { tier: 'slot', sequences }), ...others], wish))
    expect(pick(3)[0]).toBe('busy')
    expect(pick(7).at(-1)).toBe('busy')
  })

  it('begins no second load while the first is under way, unless its host is full', () => {
    const others = [host('a', { sequences: 1 }), host('b', { sequences: 1 })]
    const pick = (sequences: number) =>
      idsOf(pickHosts([host('busy', { sequences }), ...others], wish, { comingTo: 'busy' }))
    expect(pick(15)[0]).toBe('busy')
    // Its queue holds some requests for each that it runs, and it says when no more.
    expect(pick(40)[0]).toBe('busy')
    expect(pick(60).at(-1)).toBe('busy')
  })

  it('lets a crowd wait at the one host that has the adapter, until its demand lasts', () => {
    const others = [host('a', { sequences: 1 }), host('b', { sequences: 1 })]
    const hosts = [host('busy', { tier: 'slot', sequences: 40 }), ...others]
    const pick = (demand: number, replicas: number) =>
      idsOf(pickHosts(hosts, { ...wish, demand }, { replicas }))
    expect(pick(40, 1)[0]).toBe('busy')
    // Busy with others' requests, or with more of its own than one host should have.
    expect(pick(10, 1).at(-1)).toBe('busy')
    expect(pick(40, 2).at(-1)).toBe('busy')
  })

  it('leaves a resident host whose requests wait, or that may be given little', () => {
    const others = [host('a'), host('b')]
    const slow = host('slow', { tier: 'slot', sequences: 4, waitMs: 2000 })
    const weak = host('weak', { tier: 'slot', sequences: 4, weight: 0.25 })
    expect(idsOf(pickHosts([slow, ...others], wish)).at(-1)).toBe('slow')
    expect(idsOf(pickHosts([weak, ...others], wish)).at(-1)).toBe('weak')
  })

  it('asks a host in doubt last, and asks it nevertheless', () => {
    const hosts = [host('a', { tier: 'slot', isSuspect: true }), host('b', { sequences: 99 })]
    expect(idsOf(pickHosts(hosts, wish))).toEqual(['b', 'a'])
  })

  it('takes a host that is just loading the adapter for one that has it', () => {
    const hosts = createPool(4)
    const last = idsOf(pickHosts(hosts, wish)).at(-1) ?? ''
    expect(idsOf(pickHosts(hosts, wish, { comingTo: last }))[0]).toBe(last)
  })

  it('brings an adapter of great demand to its next hosts sooner', () => {
    const hosts = createPool(4)
    const [first = '', second = ''] = idsOf(pickHosts(hosts, wish))
    const loaded = hosts.map((each) => ({
      ...each,
      sequences: each.hostId === first ? 4 : 0,
      tierOf: () => (each.hostId === first ? ('slot' as const) : null),
    }))
    expect(idsOf(pickHosts(loaded, { ...wish, demand: 8 }))[0]).toBe(first)
    expect(idsOf(pickHosts(loaded, { ...wish, demand: 14 })).slice(0, 2)).toEqual([second, first])
  })

  it('sends requests without an adapter to the less busy of their tenant’s two hosts', () => {
    const hosts = createPool(8)
    const [first = '', second = ''] = idsOf(pickHosts(hosts, baseWish))
    const busy = hosts.map((each) => ({ ...each, sequences: each.hostId === first ? 1 : 0 }))
    expect(idsOf(pickHosts(busy, baseWish)).slice(0, 2)).toEqual([second, first])
    const homes = Array.from({ length: 200 }, (_, i) =>
      idsOf(pickHosts(hosts, { ...baseWish, tenantId: `ten_${i}` }))
        .slice(0, 2)
        .sort()
        .join(),
    )
    // Two of eight can be chosen in 28 ways: two tenants seldom share both.
    expect(new Set(homes).size).toBeGreaterThan(24)
  })
})

/** Pools of every kind, from a seed. */
function createRandomPool(random: Random): HostState[] {
  const tiers = ['slot', 'ram', 'disk', null] as const
  return Array.from({ length: 1 + random.integer(24) }, (_, i) => {
    const tier = tiers[random.integer(12)] ?? null
    return host(`hst_${i}`, {
      sequences: random.integer(40),
      sequencesMax: 1 + random.integer(32),
      waitMs: random.integer(4) === 0 ? random.integer(5000) : 0,
      weight: random.integer(3) === 0 ? 0.1 + 0.9 * random.fraction() : 1,
      isSuspect: random.integer(6) === 0,
      ...(tier && { tier }),
    })
  })
}

describe('pickHosts in 2,000 random pools', () => {
  const pools = Array.from({ length: 2000 }, (_, seed) => {
    const random = new Random('pick-host', seed)
    const hosts = createRandomPool(random)
    const demand = random.integer(3) === 0 ? random.integer(100) : 0
    return { seed, random, hosts, wish: { ...wish, demand, digest: createDigest(seed) } }
  })

  it('orders every host once, and alike whatever the order of the list', () => {
    for (const { hosts, wish } of pools) {
      const ids = idsOf(pickHosts(hosts, wish))
      expect([...ids].sort()).toEqual(idsOf(hosts).sort())
      expect(idsOf(pickHosts(hosts.toReversed(), wish))).toEqual(ids)
    }
  })

  it('finds the same first few without ordering all', () => {
    for (const { random, hosts, wish } of pools) {
      const count = 1 + random.integer(4)
      const all = idsOf(pickHosts(hosts, wish))
      expect(idsOf(pickHosts(hosts, wish, { count }))).toEqual(all.slice(0, count))
    }
  })

  it('asks no host that is busier than another by more than the dearest load', () => {
    let busier = 0
    for (const { hosts, wish } of pools) {
      const [first] = pickHosts(hosts, wish)
      if (first === undefined || first.isSuspect) continue
      const least = Math.min(...hosts.filter(({ isSuspect }) => !isSuspect).map(businessOf))
      expect(businessOf(first)).toBeLessThanOrEqual(least + LOAD_PRICE_MAX)
      if (businessOf(first) > least) busier += 1
    }
    // The case occurs, or this shows nothing.
    expect(busier).toBeGreaterThan(20)
  })

  it('never prefers a host for having more to do', () => {
    for (const { random, hosts, wish } of pools) {
      const target = hosts[random.integer(hosts.length)]
      if (target === undefined) continue
      const before = idsOf(pickHosts(hosts, wish)).indexOf(target.hostId)
      const more = { ...target, sequences: target.sequences + 1 + random.integer(20) }
      const changed = hosts.map((each) => (each === target ? more : each))
      expect(idsOf(pickHosts(changed, wish)).indexOf(target.hostId)).toBeGreaterThanOrEqual(before)
    }
  })
})
