import { beforeEach, describe, expect, it } from 'vitest'
import { COMING_MS } from '../limits.ts'
import { createDigest, createHostState, createPool, idsOf } from '../test/support/host-states.ts'
import { PoisonPool, type PoisonPoolOptions } from '../test/support/poison-pool.ts'
import type { HostState, HostWish } from './pick-host.ts'
import { Placement } from './placement.ts'

const wish: HostWish = {
  baseModel: 'base',
  digest: createDigest(1),
  tenantId: 'ten_1',
  demand: 0,
}
let nowMs = 0
let placement: Placement
beforeEach(() => {
  nowMs = 1e6
  placement = new Placement(() => nowMs)
})

function order(hosts: readonly HostState[], change: Partial<HostWish> = {}): string[] {
  const choice = placement.order(hosts, { ...wish, ...change }, {})
  return choice.kind === 'hosts' ? idsOf(choice.hosts) : []
}

describe('an adapter that is on its way to a host', () => {
  it('is expected there until heartbeats can have told, whoever asks', () => {
    const hosts = createPool(4)
    const [home = '', other = ''] = order(hosts)
    const target = hosts.find(({ hostId }) => hostId === other)
    if (target === undefined) throw new Error('no host')
    placement.enter(target, wish)
    expect(order(hosts, { tenantId: 'ten_2' })[0]).toBe(other)
    nowMs += COMING_MS
    expect(order(hosts)[0]).toBe(home)
  })

  it('needs no second hint, nor does one in memory or on a host that is full', () => {
    const digest = createDigest(1)
    const host = createHostState('a')
    expect(placement.isToLoad(host, digest)).toBe(true)
    placement.sent(host, digest)
    expect(placement.isToLoad(host, digest)).toBe(false)
    for (const tier of ['slot', 'ram'] as const) {
      expect(placement.isToLoad(createHostState('b', { tiers: { [digest]: tier } }), digest)).toBe(
        false,
      )
    }
    const disk = { tiers: { [digest]: 'disk' as const } }
    expect(placement.isToLoad(createHostState('b', disk), digest)).toBe(true)
    expect(placement.isToLoad(createHostState('b', { ...disk, sequences: 16 }), digest)).toBe(false)
  })
})

describe('a burst to one cold adapter through two edges', () => {
  const sendAll = (sequencesMax: number, count: number): Set<string> => {
    const edges = [new Placement(() => nowMs), new Placement(() => nowMs)]
    const used = new Set<string>()
    for (const edge of edges) {
      // Each knows its own requests alone.
      const own = new Map<string, number>()
      for (let i = 0; i < count / edges.length; i++) {
        const hosts = createPool(3).map((host) => {
          return { ...host, sequencesMax, sequences: own.get(host.hostId) ?? 0 }
        })
        const choice = edge.order(hosts, { ...wish, demand: i }, { count: 1 })
        const [host] = choice.kind === 'hosts' ? choice.hosts : []
        if (host === undefined) throw new Error('no host')
        edge.enter(host, wish)
        own.set(host.hostId, (own.get(host.hostId) ?? 0) + 1)
        used.add(host.hostId)
      }
    }
    return used
  }

  it('stays on one host while that or its queue has room', () => {
    expect(sendAll(512, 500).size).toBe(1)
    expect(sendAll(64, 300).size).toBe(1)
  })

  it('goes to the same two hosts where one is too small', () => {
    expect(sendAll(16, 500).size).toBe(2)
  })
})

describe('a tenant whose every request breaks its host', () => {
  const pool: PoisonPoolOptions = {
    seed: 1,
    hosts: 8,
    edges: 1,
    tenants: 300,
    seconds: 600,
    requestsPerSecond: 50,
    poisonPerSecond: 5,
    poisonAdapters: 1,
  }

  it('takes two of eight hosts at once, and no request of others', () => {
    for (let seed = 0; seed < 2; seed++) {
      const result = new PoisonPool({ ...pool, seed }).run()
      expect(result.requests).toBeGreaterThan(25_000)
      expect(result.downMax, `seed ${seed}`).toBe(2)
      expect(result.failed + result.cut).toBeLessThan(result.requests / 1000)
    }
  })

  it('takes two for each edge at most, with adapters that belong everywhere', () => {
    for (let seed = 0; seed < 2; seed++) {
      const options = { ...pool, seed, edges: 2, poisonAdapters: 20 }
      const result = new PoisonPool(options).run()
      expect(result.downMax, `seed ${seed}`).toBeLessThanOrEqual(4)
      expect(result.failed).toBeLessThan(result.requests / 1000)
      expect(result.cut).toBeLessThan(result.requests / 1000)
    }
  })

  it('would take the whole pool if nothing were learnt of it', () => {
    const result = new PoisonPool({
      ...pool,
      seconds: 60,
      isUnknown: true,
      poisonAdapters: 20,
    }).run()
    expect(result.downMax).toBe(8)
    expect(result.failed).toBeGreaterThan(result.requests / 2)
  })
})
