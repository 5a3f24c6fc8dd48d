import { expect, it } from 'vitest'
import { createDigest, createPool, idsOf } from '../test/support/host-states.ts'
import { type HostState, pickHosts } from './pick-host.ts'

const ADAPTERS = 10_000
const digests = Array.from({ length: ADAPTERS }, (_, i) => createDigest(i))

/** The host of each adapter, in an idle pool where none is resident. */
function homes(hosts: readonly HostState[]): string[] {
  const wish = { baseModel: 'base', tenantId: 'ten_1', demand: 0 }
  return digests.map((digest) => {
    return idsOf(pickHosts(hosts, { ...wish, digest }, { count: 1 }))[0] ?? ''
  })
}

const hosts = createPool(20)
const before = homes(hosts)

it('gives every host its share of the adapters', () => {
  const counts = hosts.map(({ hostId }) => before.filter((id) => id === hostId).length)
  const share = ADAPTERS / hosts.length
  // Five standard deviations of a fair draw.
  const slack = 5 * Math.sqrt(share)
  for (const count of counts) expect(Math.abs(count - share)).toBeLessThan(slack)
})

it('moves to a host that joins its share, and nothing else', () => {
  const after = homes(createPool(21))
  const moved = after.filter((id, i) => id !== before[i])
  expect(new Set(moved)).toEqual(new Set(['hst_20']))
  const share = ADAPTERS / 21
  expect(Math.abs(moved.length - share)).toBeLessThan(5 * Math.sqrt(share))
})

it('moves from a host that leaves its own, to all others', () => {
  const after = homes(hosts.filter(({ hostId }) => hostId !== 'hst_7'))
  const moved = before.filter((id, i) => id !== after[i])
  expect(new Set(moved)).toEqual(new Set(['hst_7']))
  const heirs = after.filter((_, i) => before[i] === 'hst_7')
  expect(new Set(heirs).size).toBe(19)
})
